"""Exact match and F1 of predicted answers against the reference answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from kdspec.data.answers.treebank_words import treebank_words

Language = Literal["en", "zh"]
"""The languages with comparison rules of their own."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)
# The punctuation that CMRC 2018's own evaluation removes.
_CHINESE_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")  # noqa: RUF001 - they are the marks of Chinese texts
_CHINESE = re.compile(r"[\u4e00-\u9fa5]")


def score(
    predicted: str, answers: Sequence[str], language: Language, *, unanswerable: bool = False
) -> tuple[float, float]:
    """Exact match and F1, 0 to 1, with the closest answer.

    English as in SQuAD's evaluation: in lower case, without punctuation and articles, F1 of the common words (Rajpurkar et
    al. 2016). Chinese as in CMRC 2018's: without punctuation, F1 of the longest common run of characters, where Latin text
    counts by words (Cui et al. 2019).

    Args:
        predicted: the predicted answer, empty for none.
        answers: the reference answers.
        language: the rules.
        unanswerable: whether questions may have no answer, as in SQuAD 2.0 (Rajpurkar et al. 2018): answers of which nothing
            is left, such as `the`, are none, and two of these are alike. Otherwise, as in SQuAD 1.1, their F1 is 0.
    """
    one: Callable[[str, str], tuple[float, float]] = _chinese if language == "zh" else _english
    if unanswerable:
        answers = [answer for answer in answers if _left(answer, language)] or [""]
        if "" in answers:
            nothing = float(not _left(predicted, language))
            return nothing, nothing
    found = [one(predicted, answer) for answer in answers]
    return max(exact for exact, _ in found), max(f1 for _, f1 in found)


def _left(text: str, language: Language) -> Sequence[str]:
    """What is compared of a text."""
    return _without_marks(text) if language == "zh" else _english_words(text)


def _english_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()


def _english(predicted: str, answer: str) -> tuple[float, float]:
    mine, theirs = _english_words(predicted), _english_words(answer)
    return float(mine == theirs), _f1((Counter(mine) & Counter(theirs)).total(), len(mine), len(theirs))


def _chinese(predicted: str, answer: str) -> tuple[float, float]:
    mine, theirs = (_without_marks(text) for text in (predicted, answer))
    one, other = _segments(mine), _segments(theirs)
    return float(mine == theirs), _f1(_longest_run(one, other), len(one), len(other))


def _f1(common: int, mine: int, theirs: int) -> float:
    return 2 * common / (mine + theirs) if common else 0.0


def _without_marks(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in _CHINESE_MARKS)


def _segments(text: str) -> list[str]:
    """Chinese characters one by one, and the words of other scripts between them."""
    found: list[str] = []
    rest = ""
    for character in text:
        if _CHINESE.match(character):
            found += [*treebank_words(rest), character]
            rest = ""
        else:
            rest += character
    return found + treebank_words(rest)


def _longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    longest, before = 0, [0] * (len(other) + 1)
    for mine in one:
        now = [0] * (len(other) + 1)
        for place, theirs in enumerate(other, 1):
            if mine == theirs:
                now[place] = before[place - 1] + 1
        longest, before = max(longest, *now), now
    return longest
