"""Augmentations: TextBrewer's values, and texts that are too short for them."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.tasks.augmentations import (
    Deleting,
    LongDisorder,
    MaskWords,
    NGramSampling,
    ShortDisorder,
    kdspec_components,
)

LETTERS = list("abcdefghij")


class AsNumpy(Random):
    """Draws as numpy's global generator did."""

    def __init__(self):
        super().__init__(0)
        self.state = np.random.RandomState(0)

    def random(self):
        return self.state.random_sample()

    def randrange(self, stop):
        return self.state.randint(0, stop)


def changed(component, words, generator=None):
    return component.build(BuildContext())(list(words), generator or AsNumpy())


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (MaskWords(probability=0.5), "a b c d [MASK] f [MASK] h i [MASK]"),
        (Deleting(probability=0.5), "a b c d f h i"),
        (NGramSampling(), "f g h"),
        (ShortDisorder(probabilities=[0.2] * 5), "c b a f d e i g h j"),
        (LongDisorder(probability=0.5, length=4), "a b c d g h e f i j"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_textbrewers_values(component, expected):
    assert " ".join(changed(component, LETTERS)) == expected


def test_a_stretch_may_be_a_part_of_the_text():
    numbers = [str(number) for number in range(11)]
    found = changed(LongDisorder(probability=1, length=0.4), numbers)
    assert found == ["2", "3", "0", "1", "6", "7", "4", "5", "8", "9", "10"]
    assert changed(LongDisorder(probability=1, length=1), "abcd") == ["c", "d", "a", "b"]


@given(words=st.lists(st.text("abc", min_size=1, max_size=2), max_size=6), seed=st.integers(0, 99))
@pytest.mark.parametrize(
    "component",
    [
        MaskWords(probability=1),
        Deleting(probability=1),
        NGramSampling(lengths=[3, 5]),
        NGramSampling(lengths=[1, 4], probabilities=[0, 1]),
        ShortDisorder(probabilities=[0, 0.25, 0.25, 0.25, 0.25]),
        LongDisorder(probability=1, length=0.1),
        LongDisorder(probability=1, length=3),
    ],
    ids=str,
)
def test_a_text_of_any_length_stays_one(component, words, seed):
    """TextBrewer's could raise, return nothing, or never return."""
    found = changed(component, words, Random(seed))
    assert bool(found) == bool(words)
    if component.name.endswith("disorder"):
        assert Counter(found) == Counter(words)
    assert found == changed(component, words, Random(seed))


def test_a_part_of_the_rows():
    """A row is drawn before its words are."""
    some = MaskWords(probability=1, rows=0.3)
    count = sum(changed(some, ["a"], Random(seed)) == ["[MASK]"] for seed in range(1000))
    assert 250 < count < 350


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (MaskWords, {"probability": 1.5}, "less than or equal to 1"),
        (Deleting, {"rows": 0}, "greater than 0"),
        (NGramSampling, {"lengths": []}, "at least 1"),
        (NGramSampling, {"lengths": [0]}, "greater than or equal to 1"),
        (NGramSampling, {"lengths": [1, 2], "probabilities": [1.0]}, "1 probabilities for 2 lengths"),
        (NGramSampling, {"lengths": [1, 2], "probabilities": [0.5, 0.6]}, "have the sum 1.1"),
        (ShortDisorder, {"probabilities": [0.5, 0.5]}, "at least 5"),
        (ShortDisorder, {"probabilities": [0.9, 0.2, 0.0, 0.0, 0.0]}, "have the sum 1.1"),
        (LongDisorder, {"length": 0}, "greater than 0"),
    ],
)
def test_a_value_out_of_range(cls, fields, message):
    with pytest.raises(ValidationError, match=message):
        cls(**fields)


def test_only_masking_puts_in_a_mask():
    assert [component.name for component in kdspec_components() if component.masks] == ["masking"]
