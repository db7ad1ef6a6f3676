"""Texts as words, and back."""

from __future__ import annotations

import pytest

from kdspec.data import word_split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a good film", ["a", "good", "film"]),
        ("  spaced,\n out  ", ["spaced,", "out"]),
        ("", []),
        ("我喜欢BERT模型", ["我", "喜", "欢", "BERT", "模", "型"]),
        ("カメラ is it", ["カ", "メ", "ラ", "is", "it"]),
    ],
)
def test_words_are_split_at_spaces_and_chinese_into_characters(text, expected):
    assert word_split.split(text) == expected


@pytest.mark.parametrize("text", ["a good film", "我喜欢BERT模型", "", "x"])
def test_a_text_comes_back(text):
    assert word_split.join(word_split.split(text)) == text
