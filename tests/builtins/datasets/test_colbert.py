"""Files of ids in ColBERT's format."""

from __future__ import annotations

import pytest

from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.builtins.datasets.colbert import Colbert
from kdspec.diagnostics.fault import Fault


@pytest.fixture
def read(tmp_path):
    """The rows of `train` in a file with this text."""

    def rows(text):
        (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
        return Colbert(train=["train.jsonl"]).build(DatasetContext(folder=tmp_path))["train"].to_dict()

    return rows


def test_passages_with_scores(read):
    assert read('[7, [12, 1.5], [3, -2]]\n\n["q", ["a", 0.5]]\n') == {
        "query_id": ["7", "q"],
        "document_ids": [["12", "3"], ["a"]],
        "positive_id": ["12", "a"],
        "scores": [[1.5, -2.0], [0.5]],
    }


def test_passages_without_scores(read):
    assert read("[7, 12, 3]\n") == {"query_id": ["7"], "document_ids": [["12", "3"]], "positive_id": ["12"]}


def test_the_first_rows_are_known_before_a_run(tmp_path):
    (tmp_path / "train.jsonl").write_text("[1, [2, 0.5]]\n[3, [4, 0.5]]\n")
    assert Colbert(train=["train.jsonl"]).first(BuildContext(folder=tmp_path), 1) == {
        "query_id": ["1"], "document_ids": [["2"]], "positive_id": ["2"], "scores": [[0.5]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, [2, 0.5]]\n{}\n", "train.jsonl:2: an object in place of a query and its passages"),
        ("[1]\n", "train.jsonl:1: a list without a passage in place of"),
        ("[1, [2, 0.5], 3]\n", "train.jsonl:1: a list of 1 in place of a passage and its score"),
        ("[1, 2]\n[1, [2, 0.5]]\n", "train.jsonl:2: a list of 2 in place of a passage alone"),
        ("[1, [2, NaN]]\n", "train.jsonl:1: NaN or infinity in place of a score"),
        ('[1, [2, "0.5"]]\n', "train.jsonl:1: a text in place of a score"),
        ("[1.5, [2, 0.5]]\n", "train.jsonl:1: a number in place of an id"),
        ("[1, \n", "train.jsonl:1:"),
        ("\n\n", "train.jsonl: the file is empty"),
    ],
)
def test_a_line_that_cannot_be_read(read, text, message):
    with pytest.raises(Fault) as caught:
        read(text)
    assert (caught.value.code, caught.value.at) == ("KD502", ("train", 0))
    assert caught.value.message.startswith(message), caught.value.message
