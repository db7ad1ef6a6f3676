"""Masked tokens."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.data.masking import IGNORE, NO_WORD, Masking, word_of_each


class Tokens(SimpleNamespace):
    """A vocabulary of which 0 to 4 are marks."""

    def __len__(self):
        return 100


TOKENIZER = Tokens(mask_token_id=4, all_special_ids=[0, 1, 2, 3, 4])


def masked(ids, words, seed=0, probability=0.15):
    return Masking(TOKENIZER, probability)(ids, words, Random(seed))


def test_masked_tokens_become_the_mask_a_random_token_or_are_unchanged():
    ids = [50] * 20000
    found, labels = masked(ids, range(len(ids)))
    chosen = [token for token, label in zip(found, labels, strict=True) if label != IGNORE]
    kinds = Counter("mask" if token == 4 else "same" if token == 50 else "other" for token in chosen)
    assert len(chosen) == 3000
    assert [kinds[kind] / 3000 for kind in ("mask", "other", "same")] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert min(chosen) >= 4
    assert all(token == 50 for token, label in zip(found, labels, strict=True) if label == IGNORE)


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=20), seed=st.integers(0, 50))
def test_a_word_is_masked_as_a_whole(lengths, seed):
    words = [NO_WORD, *(word for word, length in enumerate(lengths) for _ in range(length)), NO_WORD]
    ids = [10 + place for place in range(len(words))]
    found, labels = masked(ids, words, seed)
    assert {label for label in labels if label != IGNORE} <= set(ids)
    assert labels[0] == labels[-1] == IGNORE
    by_word = {}
    for word, label in zip(words, labels, strict=True):
        by_word.setdefault(word, set()).add(label != IGNORE)
    assert all(len(states) == 1 for states in by_word.values())
    assert any(label != IGNORE for label in labels)
    assert (found, labels) == masked(ids, words, seed)


def test_words_of_one_number_in_two_places_are_two():
    ids, words = [10, 11, 12, 13], [0, NO_WORD, 0, NO_WORD]
    chosen = {tuple(label != IGNORE for label in masked(ids, words, seed)[1]) for seed in range(20)}
    assert chosen == {(True, False, False, False), (False, False, True, False)}


@pytest.mark.parametrize(
    ("text", "lengths", "expected"),
    [
        ("我喜欢模型", [1, 2, 2], [0, 1, 1, 2, 2]),
        ("我 喜欢", [1, 2], [0, 1, 1, 1]),
        ("喜欢 ", [2], [0, 0, 0]),
        ("", [], []),
        ("我喜欢", [1, 1], None),
        ("我", [2], None),
    ],
)
def test_words_of_a_text_are_found_by_their_lengths(text, lengths, expected):
    assert word_of_each(text, lengths) == expected
