"""Words of an English text as the Penn Treebank separates them, which CMRC 2018's evaluation applies to runs of Latin text.

Signs that the evaluation has removed before, such as `-`, `:` and `` ` ``, have no rules here. Words of other scripts, signs
such as `…` and `℃`, and full-width letters are parts of the words that they stand in: only the signs below are separated.

Marcus et al. 1993, "Building a Large Annotated Corpus of English: The Penn Treebank"
(https://aclanthology.org/J93-2004); the rules are those of MacIntyre's tokenizer with the additions of NLTK's
`word_tokenize`, whose sentences are found here without its list of abbreviations.
"""
# ruff: noqa: RUF001 - they are the quotation marks of texts

from __future__ import annotations

import re
from itertools import pairwise

_CLOSING = "\"')\\]}‘’“”«»"
# A sentence ends with a single stop, or with `?` or `!`, where white space or a sign follows; closing signs belong to it.
_END = re.compile(rf"((?:(?<![.\s])\.|[?!])(?:[{_CLOSING}]+(?=\s|$))?+)(?=\s|[;*:@({{\[?!{_CLOSING}])")
# An initial or a number before a word in lower case, as in `no. 3 a. smith`, does not end one. Numbers are bounded, for
# commas stand before and in them, which would take quadratic time.
_INITIAL = re.compile(r"(?:^|[\s(\"{\[;&#*@)}\],])(?:[^\W\d]|[.,]?\d[\d,.]{0,60})\.$")
_GOES_ON = re.compile(r"\s+[^\W\d_]")
_OPENING = (
    (re.compile("[«‘„]"), r" \g<0> "),
    (re.compile(r'^"'), "`` "),
    (re.compile(r"(?<=[ (\[{<])(?:\"|'')"), " `` "),
    # An apostrophe opens a quotation unless it begins a clitic.
    (re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"), "' "),
)
_SIGNS = (
    (re.compile(r"(?<=[^.])\.(?=[\])}>\"'»”’ ]*+\s*+$)"), " . "),  # the stop of the sentence
    (re.compile(r",(\D|$)"), r" , \1"),  # not within a number
    (re.compile(r"\.{2,}"), r" \g<0> "),
    (re.compile(r"[;@#$%&?!\u2012-\u2015\[\](){}<>]"), r" \g<0> "),
    (re.compile(r"(?<=[^'])' "), " ' "),
)
_QUOTES_AND_CLITICS = (
    (re.compile("[»”’]|''"), r" \g<0> "),
    (re.compile('"'), " '' "),
    (re.compile(r"\s+"), " "),
    # Clitics are words of their own.
    (re.compile(r"(?<=[^' ])(?:'[smd]|') "), r" \g<0>"),
    (re.compile(r"(?<=[^' ])(?:'ll|'re|'ve|n't) "), r" \g<0>"),
)
_TWO_WORDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(can)(not)\b",
        r"\b(d)('ye)\b",
        r"\b(gim)(me)\b",
        r"\b(gon)(na)\b",
        r"\b(got)(ta)\b",
        r"\b(lem)(me)\b",
        r"\b(more)('n)\b",
        r"\b(wan)(na)(?=\s)",
        r" ('t)(is|was)\b",
    )
)


def treebank_words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [word for sentence in _sentences(text) for word in _words(sentence)]


def _sentences(text: str) -> list[str]:
    ends = [0, *(match.end(1) for match in _END.finditer(text) if not _continues(text, match.end(1))), len(text)]
    return [text[first:end].lstrip() if first else text[:end] for first, end in pairwise(ends)]


def _continues(text: str, end: int) -> bool:
    return _INITIAL.search(text[:end]) is not None and _GOES_ON.match(text, end) is not None


def _words(sentence: str) -> list[str]:
    for pattern, written in (*_OPENING, *_SIGNS):
        sentence = pattern.sub(written, sentence)
    sentence = f" {sentence} "
    for pattern, written in _QUOTES_AND_CLITICS:
        sentence = pattern.sub(written, sentence)
    for pattern in _TWO_WORDS:
        sentence = pattern.sub(r" \1 \2 ", sentence)
    return sentence.split()
