"""Word vectors of both text formats, and files that are none."""

from __future__ import annotations

import pytest
import torch

from kdspec.diagnostics.fault import Fault
from kdspec.networks import word_vectors

GLOVE = "good 1 2\nFilm 3 4\nother 5 6\n"


def filled(path, text, vocabulary=("good", "film", "##ly")):
    path.write_text(text, encoding="utf-8")
    table = torch.zeros(len(vocabulary), 2)
    return word_vectors.fill(table, {word: i for i, word in enumerate(vocabulary)}, path), table.tolist()


@pytest.mark.parametrize("text", [GLOVE, f"3 2\n{GLOVE}"], ids=["GloVe", "word2vec"])
def test_tokens_that_are_words_have_their_vectors(text, tmp_path):
    assert filled(tmp_path / "v.txt", text) == (2, [[1, 2], [3, 4], [0, 0]])
    assert word_vectors.width(tmp_path / "v.txt") == 2


def test_the_first_of_a_word_in_two_cases_counts(tmp_path):
    assert filled(tmp_path / "v.txt", "Good 1 1\ngood 2 2\n") == (1, [[1, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("good 1 2\nfilm 3\n", "line 2 has 1 numbers; the embeddings are 2 wide"),
        ("good one 2\n", "a value that is not a number"),
        ("nothing 1 2\n", "no word of the file is a token"),
    ],
)
def test_errors_of_a_file_are_reported_by_line(text, message, tmp_path):
    with pytest.raises(Fault, match=message):
        filled(tmp_path / "v.txt", text)


def test_an_empty_or_a_binary_file_has_no_vectors(tmp_path):
    (tmp_path / "v.txt").write_text("")
    with pytest.raises(Fault, match="no word vectors"):
        word_vectors.width(tmp_path / "v.txt")
    (tmp_path / "v.bin").write_bytes(b"\xff\xfe 1 2\n")
    with pytest.raises(Fault, match="not UTF-8"):
        word_vectors.width(tmp_path / "v.bin")
