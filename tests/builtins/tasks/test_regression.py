"""The task of giving texts numbers."""

from __future__ import annotations

import math

import datasets
import pytest
import torch
import transformers
from pydantic import ValidationError
from task_batches import batch_of, encoded, loss_of, metrics_of

from kdspec.api.kinds.context import BuildContext, TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.evaluator import Metric
from kdspec.api.working.task import Head
from kdspec.builtins.tasks.regression import Regression
from kdspec.diagnostics.fault import Fault

ROWS = {"text": ["a", "b", "c"], "label": [0.5, None, 3], "other": [1, 2, 3]}


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in self.splits.items()})


def task(splits=None, **fields):
    splits = {"train": ROWS} if splits is None else splits
    return Regression(**{"data": Rows(splits=splits), "text": "text", "label": "label", **fields})


def built(splits=None, **fields):
    return task(splits, **fields).build(TaskContext())


@pytest.fixture
def tokenizer(new_tokenizer):
    return transformers.AutoTokenizer.from_pretrained(new_tokenizer())


def test_numbers_of_one_column_or_several(tokenizer):
    found = built(label=["label", "other"])
    assert found.head == Head(kind="regression", labels=("label", "other"))
    batch = batch_of(found, encoded(found, "train", tokenizer), tokenizer)
    assert batch.targets["labels"].dtype == torch.float32
    assert batch.targets["labels"].nan_to_num(nan=-1).tolist() == [[0.5, 1.0], [-1.0, 2.0], [3.0, 3.0]]
    assert (
        batch.targets["labels"].shape == task(label=["label", "other"]).example(BuildContext(), 3, None)["labels"].shape
    )


def test_rows_without_a_number():
    found = built({"train": ROWS, "unlabelled": ROWS, "test": {"text": ["a"]}})
    for split, rows in (("unlabelled", 3), ("test", 1)):
        assert [math.isnan(value) for row in found._labels[split] for value in row] == [True] * rows


def test_texts_that_write_numbers():
    rows = {"text": list("abcdefg"), "label": ["3", ".5", "+1", " 3.5", "3.5 ", "1e1", ""]}
    found = [value for (value,) in built({"train": rows})._labels["train"]]
    assert found[:-1] == [3.0, 0.5, 1.0, 3.5, 3.5, 10.0]
    assert math.isnan(found[-1])


@pytest.mark.parametrize(
    ("missing", "values"),
    [(["N/A", "-"], ["1", "N/A", " - "]), ("-1", ["1", "-1.000", "-1"]), ("-1", [1.0, -1.0, -1.0])],
)
def test_how_a_missing_number_is_written_can_be_said(missing, values):
    rows = {"text": ["a", "b", "c"], "label": values}
    found = [value for (value,) in built({"train": rows}, missing=missing)._labels["train"]]
    assert [math.isnan(value) for value in found] == [False, True, True]


@pytest.mark.parametrize(
    ("rows", "fields", "code", "message"),
    [
        ({"text": ["a"], "label": ["high"]}, {}, "KD502", "row 1 of `train` has `high` in `label`, not a number"),
        ({"text": ["a"], "label": [True]}, {}, "KD502", "not a number"),
        ({"text": ["a"], "label": [math.inf]}, {}, "KD502", "`inf`"),
        (
            {"text": ["a", "b"], "label": ["2.0", "N/A"]},
            {},
            "KD502",
            "row 2 of `train` has `N/A` in `label`, not a number",
        ),
        ({"text": ["a", "b"], "label": ["2.0", "3,5"]}, {}, "KD502", "row 2 of `train` has `3,5` in `label`"),
        ({"text": ["a", "b"], "label": ["2.0", "nan"]}, {}, "KD502", "row 2 of `train` has `nan` in `label`"),
        ({"text": ["a"], "label": [[1.0]]}, {}, "KD502", "a list"),
        ({"text": ["a"], "label": [None]}, {}, "KD312", "has no numbers"),
        (ROWS, {"label": "score"}, "KD312", "no column `score`"),
    ],
)
def test_wrong_rows_are_reported_at_their_place(rows, fields, code, message):
    with pytest.raises(Fault, match=message) as caught:
        built({"train": rows}, **fields)
    assert (caught.value.code, caught.value.at) == (code, ("label", 0))


@pytest.mark.parametrize("fields", [{"metric": "accuracy"}, {"label": []}, {"max_length": 1}])
def test_a_value_out_of_range(fields):
    with pytest.raises(ValidationError):
        task(**fields)


def test_the_loss_is_over_what_is_known():
    logits = torch.tensor([[1.0], [5.0], [2.0]], requires_grad=True)
    mean = loss_of(built(), logits, torch.tensor([[0.5], [math.nan], [4.0]]))
    assert mean.value.item() == pytest.approx((0.25 + 4) / 2)
    mean.value.backward()
    assert logits.grad.flatten().tolist() == pytest.approx([0.5, 0.0, -2.0])


def test_metrics_over_what_is_known():
    labels = torch.tensor([[1.0, 0.0], [2.0, 1.0], [4.0, math.nan], [3.0, 0.5]])
    logits = torch.tensor([[2.0, 1.0], [4.0, 2.0], [8.0, 9.0], [6.0, 1.6]])
    found = metrics_of(built(), [logits[:2], logits[2:]], [labels[:2], labels[2:]])
    assert found["spearman"] == pytest.approx(1.0)
    assert 0.99 < found["pearson"] < 1.0
    known = ~labels.isnan()
    assert found["mse"] == pytest.approx((logits - labels)[known].square().mean().item())
    assert metrics_of(built(), [logits], [torch.full((4, 2), math.nan)]) == {}


def test_a_correlation_with_a_constant_is_nan():
    found = metrics_of(built(), [torch.full((3, 1), 0.1)], [torch.tensor([[1.0], [2.0], [3.0]])])
    assert math.isnan(found["pearson"])
    assert math.isnan(found["spearman"])


def test_of_the_error_less_is_better():
    assert built(metric="mse").evaluator("train").primary == Metric("mse", higher_is_better=False)
    assert not built().evaluator("train").metric("mse").higher_is_better
    assert built().evaluator("train").primary == Metric("pearson")
    assert set(task().metric_names()) == {"pearson", "spearman", "mse"}


def told(splits, **fields):
    """The built task, and what was told."""
    messages = []
    found = task(splits, **fields).build(TaskContext(tell=messages.append))
    assert {fault.code for fault in messages} <= {"KD316"}
    return found, [fault.message for fault in messages]


def scores(*values):
    return {"text": ["a"] * len(values), "label": list(values)}


def test_scores_that_are_all_one_mark_are_missing():
    found, messages = told({"train": scores(0.0, 5.0), "test": scores(-1.0, -1.0)})
    assert (found.labelled("test"), found.labelled("train")) == (0, 2)
    assert messages == [
        "all numbers of `test` in `label` are -1, out of the range of `train`, 0 to 5: they count as missing"
    ]
    found, messages = told({"train": scores(-2.0, 5.0), "test": scores(-1.0, -1.0)})
    assert found.labelled("test") == 2
    assert messages == ["all numbers of `test` in `label` are -1: correlations with them are not defined"]
    assert told({"train": scores(0.0, 5.0), "test": scores(6.0, -1.0)})[1] == []


def test_numbers_are_needed_where_a_loss_reads_them():
    for rows in ({"text": ["a"]}, {"text": ["a"], "label": [None]}):
        found = task({"train": rows}).build(TaskContext(reads_labels=False))
        assert (found.rows("train"), found.labelled("train")) == (1, 0)
        with pytest.raises(Fault):
            task({"train": rows}).build(TaskContext())
