"""Files of tagged words."""

from __future__ import annotations

import pytest

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.datasets.conll import Conll
from kdspec.diagnostics.fault import Fault


@pytest.fixture
def read(tmp_path):
    """The rows of `train` in a file with this text."""

    def rows(text, **fields):
        (tmp_path / "train.txt").write_text(text, encoding="utf-8")
        return Conll(train=["train.txt"], **fields).build(BuildContext(folder=tmp_path))["train"].to_dict()

    return rows


def test_sentences_end_with_a_blank_line(read):
    expected = {"tokens": [["EU", "rejects"], ["Peter"]], "tags": [["B-ORG", "O"], ["B-PER"]]}
    assert read("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n") == expected
    assert read("\n\nEU x B-ORG\r\nrejects x O\r\n\t\n\nPeter x B-PER") == expected
    start = "-DOCSTART- -X- -X- O\n\n"
    assert read(f"{start}EU x B-ORG\nrejects x O\n{start}Peter x B-PER\n") == expected


def test_columns_are_chosen(read):
    text = "# sent_id = 1\n1\tEU\tB-ORG\t-\n2\t#1\tO\t-\n"
    assert read(text, separator="\t", token=1, tag=-2, comments="# ") == {
        "tokens": [["EU", "#1"]],
        "tags": [["B-ORG", "O"]],
    }


def test_a_character_is_a_word(read):
    assert read("中 B-LOC\n国 E-LOC\n\n人 O\n") == {
        "tokens": [["中", "国"], ["人"]],
        "tags": [["B-LOC", "E-LOC"], ["O"]],
    }


def test_a_blank_may_be_a_word_where_the_separator_is_written(read):
    assert read("a\tO\n \tO\n", separator="\t")["tokens"] == [["a", " "]]


def test_a_file_without_tags(read, tmp_path):
    assert read("EU\nrejects\n\nPeter\n") == {"tokens": [["EU", "rejects"], ["Peter"]]}
    (tmp_path / "train.txt").write_text("EU O\n")
    (tmp_path / "more.txt").write_text("EU\n")
    data = Conll(train=["train.txt"], unlabelled=["more.txt"])
    names = {split: list(columns) for split, columns in data.column_names(BuildContext(folder=tmp_path)).items()}
    assert names == {"train": ["tokens", "tags"], "unlabelled": ["tokens"]}


def test_the_columns_of_a_file_that_cannot_be_read_are_not_known(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\n")
    assert not Conll(train=["train.txt"]).column_names(BuildContext(folder=tmp_path))
    assert not Conll(train=["none.txt"]).column_names(BuildContext(folder=tmp_path))


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("EU NNP O\nrejects O\n", {}, "train.txt:2: 2 columns, and 3 before"),
        ("EU O\n", {"tag": 2}, "train.txt:1: there is no column 2: `EU O` has 2 columns"),
        ("EU O\n", {"token": -3}, "train.txt:1: there is no column -3: `EU O` has 2 columns"),
        ("\n\n", {}, "train.txt: the file has no words"),
        ("", {}, "train.txt: the file has no words"),
    ],
)
def test_a_mistake_is_reported_with_its_line(text, fields, message, read):
    with pytest.raises(Fault) as caught:
        read(text, **fields)
    assert (caught.value.code, caught.value.at) == ("KD502", ("train", 0))
    assert caught.value.message == message
