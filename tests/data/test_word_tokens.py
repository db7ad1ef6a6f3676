"""Words made into tokens, and sentences cut alike for several tokenizers."""

from __future__ import annotations

import pytest

from kdspec.data.word_tokens import Window, firsts, windows, word_windows
from kdspec.testing import tiny


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A tokenizer that makes a token of each letter, between two marks of its own."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("pieces"), layers=1, width=4))


@pytest.fixture(scope="module")
def whole():
    """A tokenizer of whole words without marks of its own, which knows no `-`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "ab": 1, "c": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace("-", "")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.fixture(scope="module")
def byte_level():
    """A tokenizer as GPT-2's, for which a space belongs to the word behind it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {chr(256 + 32): 0, **{letter: n for n, letter in enumerate("abcd", 1)}, "\u0120a": 5}
    tokenizer = Tokenizer(models.BPE(letters, [("\u0120", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def words_of(rows):
    return [[word for word in row.words if word is not None] for row in rows]


def test_each_token_has_its_word(pieces):
    (rows,) = windows([["ab", "c"], ["d"]], [pieces], [None], whole=True)
    assert [row.words for row in rows] == [[None, 0, 0, 1, None], [None, 0, None]]
    assert [pieces.convert_ids_to_tokens(row.inputs["input_ids"])[1] for row in rows] == ["a", "d"]
    assert firsts(rows[0]) == {0: 1, 1: 3}


def test_a_long_sentence_is_split_between_words(pieces):
    (rows,) = windows([["ab", "c", "de", "f"], ["a"]], [pieces], [5], whole=True)
    assert words_of(rows) == [[0, 0, 1], [2, 2, 3], [0]]
    assert [(row.sentence, row.first) for row in rows] == [(0, 0), (0, 2), (1, 0)]
    assert all(len(row.inputs["input_ids"]) <= 5 for row in rows)


def test_it_may_lose_its_end_instead(pieces):
    (rows,) = windows([["ab", "c", "de", "f"]], [pieces], [5], whole=False)
    assert words_of(rows) == [[0, 0, 1]]


def test_of_a_word_that_is_too_long_the_beginning_is_left(pieces):
    (rows,) = windows([["a", "bcdefg", "h"]], [pieces], [5], whole=True)
    assert words_of(rows) == [[0], [1, 1, 1], [2]]


def test_no_word_is_lost_at_any_length(pieces):
    sentence = ["a" * (1 + n % 4) for n in range(20)]
    for limit in range(3, 60):
        (rows,) = windows([sentence], [pieces], [limit], whole=True)
        assert [word for row in rows for word in firsts(row)] == list(range(20))


def test_sentences_are_split_alike_for_two_tokenizers(pieces, whole):
    both = windows([["ab", "c", "ab", "ab"]], [pieces, whole], [5, 3], whole=True)
    assert words_of(both[0]) == [[0, 0, 1], [2, 2], [3, 3]]
    assert words_of(both[1]) == [[0, 1], [2], [3]]


def test_a_word_may_have_no_token(pieces, whole):
    first, second = windows([["ab", "-", "c"]], [pieces, whole], [None, None], whole=True)
    assert list(firsts(first[0])) == [0, 1, 2]
    assert list(firsts(second[0])) == [0, 2]


def test_words_begin_with_a_space_if_the_tokenizer_needs_it(byte_level):
    (rows,) = windows([["a", "a", "a"]], [byte_level], [None], whole=True)
    assert byte_level.convert_ids_to_tokens(rows[0].inputs["input_ids"]) == ["a", "\u0120a", "\u0120a"]
    assert rows[0].words == [0, 1, 2]


def test_rows_without_tokens_have_the_words_of_those_with_tokens():
    sentences = [["a", "b"], ["c"]]
    assert [(row.sentence, row.words, row.inputs) for row in word_windows(sentences, [])] == [
        (0, [0, 1], {}),
        (1, [0], {}),
    ]
    read = [Window(0, 0, {}, [None, 0, 0, 1, None]), Window(0, 2, {}, [None, 2, None])]
    assert [(row.sentence, row.first, row.words) for row in word_windows(sentences, [read])] == [
        (0, 0, [0, 1]),
        (0, 2, [2]),
    ]
