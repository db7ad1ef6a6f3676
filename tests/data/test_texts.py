"""Texts of rows: read, made into tokens, padded."""

from __future__ import annotations

import json
from types import SimpleNamespace

import datasets
import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kdspec.api.kinds.context import TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.builtins.datasets.files import Json
from kdspec.builtins.tasks.masked_lm import MaskedLm
from kdspec.builtins.tasks.multi_label import MultiLabel
from kdspec.builtins.tasks.question_answering import QuestionAnswering
from kdspec.builtins.tasks.regression import Regression
from kdspec.builtins.tasks.sequence_classification import SequenceClassification
from kdspec.builtins.tasks.token_classification import TokenClassification
from kdspec.data import texts
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("tiny"), layers=1))


def rows(**columns):
    return datasets.Dataset.from_dict(columns)


def test_numbers_are_texts_as_a_spec_writes_them():
    assert texts.read(rows(text=[1, 2]), "train", "text", ("text",)) == ["1", "2"]
    assert texts.read(rows(text=[True, False]), "train", "text", ("text",)) == ["true", "false"]


@pytest.mark.parametrize(("values", "what"), [(["a", None], "no text"), ([["a"], ["b"]], "a list")])
def test_a_row_without_a_text_is_reported(values, what):
    with pytest.raises(Fault, match=what) as caught:
        texts.read(rows(text=values), "train", "text", ("text", 0))
    assert (caught.value.code, caught.value.at) == ("KD502", ("text", 0))


def test_a_limit_includes_special_tokens(tokenizer):
    columns = [["a b c d e f"]]
    assert len(texts.encode(columns, tokenizer, texts.limit(tokenizer, 4))[0]["input_ids"]) == 4
    with pytest.raises(Fault, match="`max_length` is 2, and the tokenizer's special tokens take 2") as caught:
        texts.limit(tokenizer, 2)
    assert caught.value.at == ("max_length",)
    with pytest.raises(Fault, match="take 3"):
        texts.limit(tokenizer, 3, pair=True)


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(Fault) as caught:
        texts.present(None)
    assert caught.value.code == "KD503"


def test_padding_is_on_the_side_of_the_tokenizer(tokenizer, monkeypatch):
    assert texts.padded([[1, 2, 3], [4]], -100, tokenizer).tolist() == [[1, 2, 3], [4, -100, -100]]
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    assert texts.padded([[1, 2, 3], [4]], -100, tokenizer).tolist() == [[1, 2, 3], [-100, -100, 4]]


def test_a_batch_has_the_columns_of_the_plan(tokenizer):
    batch = texts.collate(texts.encode([["a b", "a"], ["c", "d e"]], tokenizer, None), tokenizer)
    assert batch.keys() == texts.example(2, None, None).keys()
    assert {value.shape for value in batch.values()} == {batch["input_ids"].shape}
    assert texts.example(2, 64, 40)["input_ids"].shape == (2, 40)


# Rows without a text


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        del context
        return datasets.DatasetDict({name: rows(**columns) for name, columns in self.splits.items()})


def read_splits(splits, columns, without_text):
    told = []
    inputs = {("text", number): name for number, name in enumerate(columns)}
    context = TaskContext(tell=told.append)
    found = texts.splits_of(Rows(splits=splits), context, (), inputs=inputs, without_text=without_text)
    return {split: of.to_dict() for split, of in found.items()}, told


@pytest.mark.parametrize("missing", ["", "  ", "\u3000", None])
def test_a_row_without_a_text_is_named_or_left_out(missing):
    splits = {"train": {"a": ["x", missing, "y"], "b": ["1", "2", "3"]}, "test": {"a": ["NA", "null"], "b": ["1", "2"]}}
    with pytest.raises(Fault, match="row 2 of `train` has no text in `a`") as caught:
        read_splits(splits, ["a"], "error")
    assert (caught.value.code, caught.value.at) == ("KD502", ("text", 0))
    assert "`without_text: leave_out`" in caught.value.help
    found, told = read_splits(splits, ["a"], "leave_out")
    assert found == {"train": {"a": ["x", "y"], "b": ["1", "3"]}, "test": splits["test"]}
    assert [(fault.code, fault.message) for fault in told] == [("KD316", "1 row of `train` without a text is left out")]


def test_a_pair_has_two_texts():
    splits = {"train": {"a": ["x", "y", None, "z"], "b": ["1", "", "2", "3"]}}
    with pytest.raises(Fault, match="row 2 of `train` has no text in `b`") as caught:
        read_splits(splits, ["a", "b"], "error")
    assert caught.value.at == ("text", 1)
    found, told = read_splits(splits, ["a", "b"], "leave_out")
    assert found == {"train": {"a": ["x", "z"], "b": ["1", "3"]}}
    assert told[0].message == "2 rows of `train` without a text are left out"


@pytest.mark.parametrize("without_text", ["error", "leave_out"])
def test_a_split_without_any_text_is_refused(without_text):
    with pytest.raises(Fault, match=r"no text in `a`|no row of `test` has a text in `a`"):
        read_splits({"train": {"a": ["x"]}, "test": {"a": ["", ""]}}, ["a"], without_text)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.text(" \t\u00a0ab", max_size=3), min_size=1, max_size=8))
def test_what_is_left_out_is_what_is_blank(values):
    kept = [value for value in values if value is not None and value.strip()]
    assume(kept)
    found, told = read_splits({"train": {"a": values}}, ["a"], "leave_out")
    assert found["train"]["a"] == kept
    assert len(told) == (len(kept) < len(values))
    assume(len(kept) < len(values))
    with pytest.raises(Fault, match=rf"row {values.index(next(v for v in values if v not in kept)) + 1} of"):
        read_splits({"train": {"a": values}}, ["a"], "error")


def test_every_task_on_texts_can_leave_rows_out(tmp_path):
    labels = {"label": "label"}
    tasks = [
        SequenceClassification(data=Json(train="a.jsonl"), text="text", **labels, without_text="leave_out"),
        MultiLabel(data=Json(train="a.jsonl"), text="text", **labels, separator=";", without_text="leave_out"),
        Regression(data=Json(train="a.jsonl"), text="text", label="score", without_text="leave_out"),
        MaskedLm(data=Json(train="a.jsonl"), text="text", without_text="leave_out"),
        TokenClassification(data=Json(train="a.jsonl"), tokens="words", tags="tags", without_text="leave_out"),
        QuestionAnswering(data=Json(train="a.jsonl"), context="text", question="text", without_text="leave_out"),
    ]
    answer = {"text": ["a"], "answer_start": [0]}
    whole = {"label": "x", "score": "1", "answers": answer}
    made = [
        {**whole, "text": "a", "words": ["a", "b"], "tags": ["N", "V"]},
        {**whole, "text": None, "words": [], "tags": []},
        {**whole, "text": "a", "words": ["b"], "tags": ["V"], "label": "y"},
        {**whole, "text": " ", "words": None, "tags": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, made)))
    for task in tasks:
        told = []
        assert task.build(TaskContext(folder=tmp_path, tell=told.append)).rows("train") == 2, task.name
        assert "2 rows of `train` without a text are left out" in [fault.message for fault in told]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "rows", [[[1, 2, 3], [4]], [[1], [2]], [[0.5], [1.5, 2.5]], [[1, 2.5], [3]], [[True, False], [True]], [[], [7]]]
)
def test_rows_are_padded_on_the_side_of_the_tokenizer(rows, side):
    found = texts.padded(rows, 0, SimpleNamespace(padding_side=side))
    longest = max(map(len, rows))
    pad = [[0] * (longest - len(row)) for row in rows]
    expected = [zeros + row if side == "left" else row + zeros for zeros, row in zip(pad, rows, strict=True)]
    assert torch.equal(found, torch.tensor(expected, dtype=torch.tensor([x for row in rows for x in row]).dtype))
