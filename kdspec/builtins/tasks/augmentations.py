"""Augmentations: mask, delete or move the words of a text, so that a teacher labels more texts than the data has.

They follow TextBrewer, with an explicit generator; no text becomes empty.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from random import Random
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import Augmentation
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.data.word_split import MASK

Probability = Annotated[float, Field(ge=0, le=1)]
Words = list[str]
WordChange = Callable[[Words, Random], Words]


class _OfSomeRows(Augmentation):
    rows: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the rows that is changed, sampled for each row and epoch."""

    def build(self, context: BuildContext) -> WordChange:
        del context
        if self.rows == 1:
            return self.changed
        return lambda words, generator: self.changed(words, generator) if generator.random() < self.rows else words

    @abstractmethod
    def changed(self, words: Words, generator: Random) -> Words:
        """The words of a text after the change."""


class MaskWords(_OfSomeRows):
    """Words are replaced by the mask token of the tokenizer, each with the same probability."""

    name = "masking"
    masks: ClassVar[bool] = True
    probability: Probability = 0.1
    """Of each word."""

    def changed(self, words: Words, generator: Random) -> Words:
        return [MASK if generator.random() < self.probability else word for word in words]


class Deleting(_OfSomeRows):
    """Words are deleted, each with the same probability; at least one word is kept."""

    name = "deleting"
    probability: Probability = 0.1
    """Of each word."""

    def changed(self, words: Words, generator: Random) -> Words:
        kept = [word for word in words if generator.random() >= self.probability]
        return kept if kept or not words else [words[generator.randrange(len(words))]]


class NGramSampling(_OfSomeRows):
    """A text becomes a few neighbouring words of it. Lengths greater than that of the text are not sampled."""

    name = "n_gram_sampling"
    lengths: list[Annotated[int, Field(ge=1, le=LONGEST_ROW)]] = Field(default=[1, 2, 3, 4, 5], min_length=1)
    """Possible numbers of words."""
    probabilities: list[Probability] | None = None
    """Probability of each length; their sum is 1. Default: all equal."""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if self.probabilities is not None:
            if len(self.probabilities) != len(self.lengths):
                counts = f"{len(self.probabilities)} probabilities for {len(self.lengths)} lengths"
                raise invalid_value(counts, "probabilities")
            _check_sum(self.probabilities)
        return self

    def changed(self, words: Words, generator: Random) -> Words:
        chances = self.probabilities or [1 / len(self.lengths)] * len(self.lengths)
        fitting = [(n, p) for n, p in zip(self.lengths, chances, strict=True) if n <= len(words) and p > 0]
        if not fitting:
            return words
        [length] = generator.choices([n for n, _ in fitting], [p for _, p in fitting])
        start = generator.randrange(len(words) - length + 1)
        return words[start : start + length]


class ShortDisorder(_OfSomeRows):
    """Neighbouring words change places: for each two or three in turn, one of five orders is sampled."""

    name = "short_disorder"
    probabilities: list[Probability] = Field(default=[0.9, 0.1, 0.0, 0.0, 0.0], min_length=5, max_length=5)
    """Of leaving a word in its place, and of the orders `bac`, `cba`, `cab` and `bca` of `abc`; their sum is 1."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check_sum(self.probabilities)
        return self

    def changed(self, words: Words, generator: Random) -> Words:
        words, at = list(words), 0
        while at < len(words) - 1:
            [order] = generator.choices(range(5), self.probabilities)
            if order == 0:
                at += 1
            elif order == 1 or at == len(words) - 2:
                words[at : at + 2] = words[at + 1], words[at]
                at += 2
            else:
                a, b, c = words[at : at + 3]
                words[at : at + 3] = ((c, b, a), (c, a, b), (b, c, a))[order - 2]
                at += 3
        return words


class LongDisorder(_OfSomeRows):
    """The halves of a span of words are swapped. A text shorter than a span is unchanged."""

    name = "long_disorder"
    probability: Probability = 0.1
    """At each word at which a span can start, outside of other spans."""
    length: Annotated[float, Field(gt=0, le=LONGEST_ROW)] = 20.0
    """Number of words of a span, rounded up to an even number; below 2 a share of the text: 0.5 is half of it."""

    def changed(self, words: Words, generator: Random) -> Words:
        words, at = list(words), 0
        length = int(self.length if self.length >= 2 else len(words) * self.length)
        half = math.ceil(length / 2)
        while half and at <= len(words) - 2 * half:
            if generator.random() < self.probability:
                middle, end = at + half, at + 2 * half
                words[at:end] = words[middle:end] + words[at:middle]
                at = end
            else:
                at += 1
        return words


def _check_sum(probabilities: list[float]) -> None:
    total = sum(probabilities)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise invalid_value(f"the probabilities have the sum {total:g}, not 1", "probabilities")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The augmentations."""
    return [MaskWords, Deleting, NGramSampling, ShortDisorder, LongDisorder]
