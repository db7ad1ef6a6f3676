"""The task whose columns are inputs as they are."""

from __future__ import annotations

import datasets
import pytest
import torch
from pydantic import ValidationError
from task_batches import batch_of, encoded, loss_of, metrics_of

from kdspec.api.kinds.context import BuildContext, TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.paths.field_path import parse
from kdspec.api.working.evaluator import LOSS
from kdspec.builtins.datasets.files import Csv
from kdspec.builtins.tasks.tensors import Tensors
from kdspec.diagnostics.fault import Fault

ROWS = {"ids": [[1, 2], [3, 4]], "x": [0.5, 1.5], "flag": [True, False], "y": [1, 0]}


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in self.splits.items()})


def built(splits=None, **fields):
    return Tensors(data=Rows(splits=splits or {"train": ROWS}), **fields).build(TaskContext())


def fault(action, code, at):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == (code, at), caught.value.message
    return caught.value


def columns_of(task, split="train"):
    return batch_of(task, encoded(task, split)).tensors


def test_columns_go_to_the_model_under_their_names():
    batch = columns_of(built(labels="y"))
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        "ids": torch.int64,
        "x": torch.float32,
        "flag": torch.bool,
        "y": torch.int64,
    }
    assert batch["ids"].tolist() == ROWS["ids"]
    assert batch["y"].tolist() == ROWS["y"]


def test_only_the_columns_that_are_named():
    assert list(columns_of(built(columns=["x"]))) == ["x"]
    assert list(columns_of(built(columns=["y", "x"], labels="y"))) == ["x", "y"]


def test_labels_are_known_as_such():
    task = built(labels="y")
    assert list(batch_of(task, encoded(task, "train")).targets) == ["y"]
    assert not batch_of(built(), encoded(built(), "train")).targets
    component = Tensors(data=Rows(splits={}), labels="y")
    assert component.has_labels()
    assert not Tensors(data=Rows(splits={})).has_labels()
    assert "labels" not in Tensors(data=Rows(splits={})).adaptor()


@pytest.mark.parametrize("name", ["y", "my label", "class", 'a"b'])
def test_the_adaptor_finds_the_labels_whatever_their_name(name):
    path = Tensors(data=Rows(splits={}), labels=name).adaptor()["labels"]
    assert parse(path).evaluate(batch={name: 3}) == 3


def test_splits_without_labels_have_the_ignored_class():
    splits = {"train": ROWS, "test": {key: ROWS[key] for key in ("ids", "x", "flag")}, "unlabelled": ROWS}
    task = built(splits, labels="y")
    assert columns_of(task, "test")["y"].tolist() == columns_of(task, "unlabelled")["y"].tolist() == [-100, -100]
    assert [task.rows(split) for split in ("train", "test", "validation")] == [2, 2, 0]


@pytest.mark.parametrize(
    ("rows", "fields", "code", "at", "says"),
    [
        (
            {"ids": [[1], [2, 3]]},
            {},
            "KD502",
            ("data", "rows", "train"),
            "row 2 of `train` has [2] numbers in `ids`, row 1 has [1]",
        ),
        ({"ids": [[1], [2, 3]]}, {"columns": ["ids"]}, "KD502", ("columns", 0), "row 2 of `train`"),
        ({"ids": [[[1], [2, 3]]]}, {}, "KD502", ("data", "rows", "train"), "row 1 of `train` has no number"),
        ({"a": ["text"]}, {}, "KD502", ("data", "rows", "train"), "row 1 of `train` has `text`, not a number, in `a`"),
        ({"a": ["1", ""]}, {}, "KD502", ("data", "rows", "train"), "row 2 of `train` has ``, not a number"),
        ({"a": [1, 2]}, {"labels": "a"}, "KD502", ("labels",), "row 1 of `validation` has `2.5` in `a`, and `train`"),
        ({"a": [1, None]}, {}, "KD502", ("data", "rows", "train"), "row 2 of `train` has no number"),
        ({"a": [1], "y": ["x"]}, {"labels": "y"}, "KD502", ("labels",), "row 1 of `train` has `x`, not a number"),
        ({"a": [1]}, {"columns": ["b"]}, "KD312", ("columns", 0), "no column `b`"),
        ({"a": [1]}, {"labels": "b"}, "KD312", ("labels",), "no column `b`"),
        ({"a": []}, {}, "KD502", ("data", "rows", "train"), "has no rows"),
    ],
)
def test_data_that_do_not_fit(rows, fields, code, at, says):
    splits = {"train": rows, "validation": {"a": [2.5, 1.0]}} if "validation" in says else {"train": rows}
    assert says in fault(lambda: built(splits, **fields), code, at).message


@pytest.mark.parametrize(
    ("train", "dtype"),
    [(["1", " 2"], torch.int64), (["1", "2.0"], torch.float32), (["True", "false"], torch.bool), ([1, 2], torch.int64)],
)
def test_a_column_has_the_type_that_it_has_in_train(train, dtype):
    task = built({"train": {"x": train}, "validation": {"x": ["1", "0"]}, "test": {"x": [1.0, 0.0]}})
    assert [columns_of(task, split)["x"].dtype for split in ("train", "validation", "test")] == [dtype] * 3
    assert columns_of(task, "test")["x"].tolist() == [1, 0]


def test_the_plan_knows_the_type_of_texts_from_all_of_them(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,1\n2,0\n2.5,1\n")
    context = BuildContext(folder=tmp_path)
    shown = Tensors(data=Csv(train=["a.csv"]), labels="y").example(context, 4, None)
    assert {name: (found.shape, found.dtype) for name, found in shown.items()} == {
        "x": ((4,), "float32"),
        "y": ((4,), "int64"),
    }


def test_values_to_be_met_cannot_be_left_out():
    splits = {"train": {"x": [1], "y": [0.5]}, "test": {"x": [1]}}
    fault(lambda: built(splits, labels="y"), "KD502", ("labels",))


def test_a_fault_of_the_data_set_is_placed_within_it():
    class Broken(Dataset):
        """Fails."""

        name = "broken"

        def build(self, context):
            raise Fault("KD502", "broken", ("train",))

    fault(lambda: Tensors(data=Broken()).build(TaskContext()), "KD502", ("data", "broken", "train"))


@pytest.mark.parametrize("fields", [{"columns": []}, {"columns": "x"}, {"labels": 3}, {"metric": "f1"}])
def test_a_value_out_of_range(fields):
    with pytest.raises(ValidationError):
        Tensors(data=Rows(splits={}), **fields)


def test_the_loss_fits_the_labels():
    task = built()
    logits, classes = torch.randn(3, 4), torch.tensor([0, -100, 3])
    assert torch.allclose(loss_of(task, logits, classes).value, torch.nn.functional.cross_entropy(logits, classes))
    values = torch.tensor([1.0, 2.0])
    assert loss_of(task, torch.tensor([[1.0], [4.0]]), values).value == 2
    assert loss_of(task, torch.tensor([1.0, 4.0]), values).value == 2
    assert loss_of(task, torch.tensor([[1.0, 0.0], [4.0, 2.0]]), torch.tensor([[1.0, 0.0], [2.0, 2.0]])).value == 1
    fault(lambda: loss_of(task, torch.zeros(2, 3), values), "KD507", ("labels",))


def test_accuracy_where_each_row_has_one_class():
    task = built()
    logits = [torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])]
    assert metrics_of(task, logits, [torch.tensor([1, 1, -100])]) == {"accuracy": 0.5}
    assert metrics_of(task, logits, [torch.tensor([-100] * 3)]) == {}
    assert metrics_of(task, logits, [torch.tensor([0.5] * 3)]) == {}
    assert metrics_of(task, [torch.zeros(1, 2, 3)], [torch.zeros(1, 2, dtype=torch.long)]) == {}
    assert task.evaluator("train").primary == LOSS
