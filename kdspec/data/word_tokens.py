"""Tokenises sentences of words, keeps the word of each token, and splits long sentences alike for all tokenizers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_ROWS_AT_ONCE = 10_000
UNSPACED = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""The characters of scripts that put no space between words."""


@dataclass(frozen=True)
class Window:
    """A part of a sentence as one row of a model."""

    sentence: int
    first: int
    """Its first word."""
    inputs: dict[str, Any]
    """`input_ids` and, if the tokenizer returns them, `token_type_ids`."""
    words: list[int | None]
    """The word of each token, counted in the sentence; None for special tokens."""


def windows(
    sentences: Sequence[Sequence[str]], tokenizers: Sequence[Any], limits: Sequence[int | None], *, whole: bool
) -> list[list[Window]]:
    """The rows for each tokenizer; row n has the same words for all of them.

    A sentence that is too long for one of the tokenizers is split between words, so that every part fits for all of them.
    A single word that is too long is truncated to its first tokens.

    Args:
        sentences: the words of each.
        tokenizers: fast ones.
        limits: for each tokenizer the maximum number of tokens of a row, special tokens included.
        whole: whether a long sentence becomes several rows; else it is truncated to the first.
    """
    encoded = [_encode(sentences, tokenizer) for tokenizer in tokenizers]
    own = [tokenizer.num_special_tokens_to_add() for tokenizer in tokenizers]
    splits: list[tuple[int, int, int]] = []
    for number, words in enumerate(sentences):
        rows = [of[number] for of in encoded]
        fits = all(limit is None or len(row.words) <= limit for row, limit in zip(rows, limits, strict=True))
        if not fits:
            room = [limit and limit - marks for limit, marks in zip(limits, own, strict=True)]
            splits += list(_split(number, len(words), rows, room))[: None if whole else 1]
    long = {number for number, _, _ in splits}
    made = []
    for of, tokenizer, limit in zip(encoded, tokenizers, limits, strict=True):
        shorter = _encode([sentences[n][first:last] for n, first, last in splits], tokenizer, limit) if splits else []
        parts = [_moved(row, n, first) for row, (n, first, _) in zip(shorter, splits, strict=True)]
        made.append(sorted([row for row in of if row.sentence not in long] + parts, key=_place))
    return made


def word_windows(sentences: Sequence[Sequence[str]], read: Sequence[Sequence[Window]]) -> list[Window]:
    """Rows without tokens, of one position a word: with the words that the rows for the first tokenizer have.

    Args:
        sentences: the words of each.
        read: the rows for each tokenizer; without any, a row has all words of a sentence.
    """
    if not read:
        return [Window(number, 0, {}, list(range(len(words)))) for number, words in enumerate(sentences)]
    words = ([*dict.fromkeys(word for word in row.words if word is not None)] for row in read[0])
    return [Window(row.sentence, row.first, {}, [*of]) for row, of in zip(read[0], words, strict=True)]


def firsts(window: Window) -> dict[int, int]:
    """The first token of each word of the window; words without tokens are left out."""
    found: dict[int, int] = {}
    for place, word in enumerate(window.words):
        if word is not None:
            found.setdefault(word, place)
    return found


def _place(window: Window) -> tuple[int, int]:
    return window.sentence, window.first


def _moved(window: Window, sentence: int, first: int) -> Window:
    words = [None if word is None else first + word for word in window.words]
    return Window(sentence, first, window.inputs, words)


def _split(
    sentence: int, words: int, rows: Sequence[Window], room: Sequence[int | None]
) -> Iterator[tuple[int, int, int]]:
    """The parts of a sentence: its number, the first word of the part, and the word after its last."""
    tokens = [[0] * words for _ in rows]
    for count, row in zip(tokens, rows, strict=True):
        for word in row.words:
            if word is not None:
                count[word] += 1
    first, used = 0, [0] * len(rows)
    for word in range(words):
        more = [now + count[word] for now, count in zip(used, tokens, strict=True)]
        if word > first and any(limit is not None and now > limit for now, limit in zip(more, room, strict=True)):
            yield sentence, first, word
            first, more = word, [count[word] for count in tokens]
        used = more
    yield sentence, first, words


def _encode(sentences: Sequence[Sequence[str]], tokenizer: Any, limit: int | None = None) -> list[Window]:
    spaced = needs_spaces(tokenizer)
    found: list[Window] = []
    for start in range(0, len(sentences), _ROWS_AT_ONCE):
        part = sentences[start : start + _ROWS_AT_ONCE]
        encoded = tokenizer(
            [_with_spaces(words) for words in part] if spaced else [list(words) for words in part],
            is_split_into_words=True,
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=False,
            verbose=False,
        )
        keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
        for row in range(len(part)):
            inputs = {key: encoded[key][row] for key in keys}
            found.append(Window(start + row, 0, inputs, encoded.word_ids(row)))
    return found


def needs_spaces(tokenizer: Any) -> bool:
    """Whether a word inside a text begins with a space for this tokenizer, as for those of GPT-2 and RoBERTa."""

    def ids(words: str | list[str]) -> Any:
        return tokenizer(words, is_split_into_words=isinstance(words, list), add_special_tokens=False)["input_ids"]

    text = ids("a a")
    return bool(ids(["a", "a"]) != text and ids(["a", " a"]) == text)


def _with_spaces(words: Sequence[str]) -> list[str]:
    """The words, each with a leading space except the first and Chinese or Japanese characters."""
    return [word if not place or UNSPACED.match(word) else f" {word}" for place, word in enumerate(words)]
