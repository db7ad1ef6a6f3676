"""English words as the Penn Treebank separates them."""
# ruff: noqa: RUF001 - they are the signs of texts

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.data.answers.treebank_words import treebank_words

RECORDED = [
    ("the nba's 3.5℃ a…b", ["the", "nba", "'s", "3.5℃", "a…b"]),
    (
        "don't we've they'll i'm cannot gonna wanna go 'tis",
        ["do", "n't", "we", "'ve", "they", "'ll", "i", "'m", "can", "not", "gon", "na", "wan", "na", "go", "'", "tis"],
    ),
    ("$3.88 (50%) a&b t@b.c #1;", ["$", "3.88", "(", "50", "%", ")", "a", "&", "b", "t", "@", "b.c", "#", "1", ";"]),
    ("no. 3 a. smith ended. then", ["no", ".", "3", "a.", "smith", "ended", ".", "then"]),
    ("say \"ok\" 'quoted' dogs' x", ["say", "``", "ok", "''", "'", "quoted", "'", "dogs", "'", "x"]),
    ("1,000, two,three,", ["1,000", ",", "two", ",", "three", ","]),
    ("wait... what?! u.s.", ["wait", "...", "what", "?", "!", "u.s", "."]),
    (
        "«a» ‘b’ ｗ１２ é—x [y] {z} <w>",
        ["«", "a", "»", "‘", "b", "’", "ｗ１２", "é", "—", "x", "[", "y", "]", "{", "z", "}", "<", "w", ">"],
    ),
]


@pytest.mark.parametrize(("text", "words"), RECORDED)
def test_words_are_those_of_nltk(text, words):
    assert treebank_words(text) == words


@given(st.text(alphabet="ab1 .,;'\"()?!…℃&", max_size=30))
def test_nothing_but_white_space_is_lost(text):
    """But that quotation marks are written in two ways."""
    plain = str.maketrans("", "", "'\"` ")
    assert "".join(treebank_words(text)).translate(plain) == text.translate(plain)
