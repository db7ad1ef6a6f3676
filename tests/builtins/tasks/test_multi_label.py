"""The task of giving texts any number of labels."""

from __future__ import annotations

import math
import re

import datasets
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from task_batches import agreement_of, batch_of, encoded, loss_of, metrics_of
from torchmetrics.functional.classification import multilabel_f1_score

from kdspec.api.kinds.context import BuildContext, TaskContext, TrainedHead
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.task import Head
from kdspec.builtins.tasks.multi_label import MultiLabel
from kdspec.diagnostics.fault import Fault

ROWS = {"text": ["a", "b", "c", "d"], "label": [["x", "y"], [], None, ["z"]]}
NAN = math.nan


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        made = {
            name: rows if isinstance(rows, datasets.Dataset) else datasets.Dataset.from_dict(rows)
            for name, rows in self.splits.items()
        }
        return datasets.DatasetDict(made)


def task(splits=None, **fields):
    splits = {"train": ROWS} if splits is None else splits
    return MultiLabel(**{"data": Rows(splits=splits), "text": "text", "label": "label", **fields})


def built(splits=None, **fields):
    return task(splits, **fields).build(TaskContext())


def cached_teachers(found, split="train"):
    return [["?" if math.isnan(value) else int(value) for value in row] for row in found._labels[split]]


@pytest.fixture
def tokenizer(new_tokenizer):
    return transformers.AutoTokenizer.from_pretrained(new_tokenizer())


def test_lists_of_labels():
    found = built()
    assert found.head == Head(kind="multi_label", labels=("x", "y", "z"))
    assert cached_teachers(found) == [[1, 1, 0], [0, 0, 0], ["?"] * 3, [0, 0, 1]]


def test_texts_with_a_separator():
    rows = {"text": ["a", "b", "c"], "label": ["x ;y", "", "z"]}
    assert cached_teachers(built({"train": rows}, separator=";")) == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_columns_of_0_and_1():
    rows = {"text": ["a", "b"], "x": [1, 0], "y": [True, None]}
    found = built({"train": rows, "test": {"text": ["c"]}}, label=["x", "y"])
    assert found.head.labels == ("x", "y")
    assert cached_teachers(found) == [[1, 1], [0, "?"]]
    assert cached_teachers(found, "test") == [["?", "?"]]


def test_true_and_false_in_any_case_and_with_decimals():
    rows = {"text": ["a", "b", "c"], "x": ["True", "FALSE", ""], "y": ["1.0", "0.0", " true"]}
    assert cached_teachers(built({"train": rows}, label=["x", "y"])) == [[1, 1], [0, 0], ["?", 1]]


def test_whole_numbers_are_one_label_with_and_without_decimals():
    splits = {"train": {"text": ["a", "b"], "label": ["1;2", "10"]}, "test": {"text": ["c"], "label": ["10.0;2.0"]}}
    found = built(splits, separator=";")
    assert found.head.labels == ("1", "2", "10")
    assert cached_teachers(found, "test") == [[0, 1, 1]]


def test_labels_in_the_order_of_the_spec():
    assert cached_teachers(built(labels=["z", "y", "x"]))[0] == [0, 1, 1]


def test_a_data_set_that_knows_its_label_names():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["q", "p"]))}
    )
    train = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [[1], [0, 1]]}, features=features)
    found = built({"train": train})
    assert found.head.labels == ("q", "p")
    assert cached_teachers(found) == [[0, 1], [1, 1]]


def test_unlabelled_rows_have_none():
    found = built({"train": ROWS, "unlabelled": ROWS})
    assert cached_teachers(found, "unlabelled") == [["?"] * 3] * 4


@pytest.mark.parametrize(
    ("splits", "fields", "code", "at", "message"),
    [
        ({"train": {"text": ["a"], "label": ["x;y"]}}, {}, "KD502", ("label", 0), "the string `x;y`"),
        ({"train": {"text": ["a"], "label": [3]}}, {}, "KD502", ("label", 0), "a int"),
        ({"train": {"text": ["a"], "label": [["x"]]}}, {}, "KD312", ("label", 0), "only the label `x`"),
        ({"train": ROWS, "test": {"text": ["a"], "label": [["q"]]}}, {}, "KD312", ("label", 0), "not among"),
        ({"train": ROWS}, {"labels": ["x", "y"]}, "KD312", ("labels",), "`z`, which is not among"),
        ({"train": ROWS}, {"label": ["x", "y"]}, "KD312", ("label", 0), "no column `x`"),
        ({"train": {"text": ["a"], "x": [2], "y": [0]}}, {"label": ["x", "y"]}, "KD502", ("label", 0), "neither 0"),
        (
            {"train": {"text": ["a", "b"], "x": ["1.0", "unknown"], "y": ["0.0", "1.0"]}},
            {"label": ["x", "y"]},
            "KD502",
            ("label", 0),
            "row 2 of `train` has `unknown` in `x`, neither 0 nor 1",
        ),
        ({"train": ROWS}, {"text": "txt"}, "KD312", ("text", 0), "no column `txt`"),
    ],
)
def test_wrong_rows_are_reported_at_their_place(splits, fields, code, at, message):
    with pytest.raises(Fault, match=message) as caught:
        built(splits, **fields)
    assert (caught.value.code, caught.value.at) == (code, at)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": ["x", "y"], "separator": ";"}, "exclude each other"),
        ({"label": ["x", "y"], "labels": ["x", "y"]}, "exclude each other"),
        ({"threshold": 1.0}, "less than 1"),
        ({"labels": ["x"]}, "at least 2"),
        ({"labels": ["x", "x"]}, "written twice"),
        ({"metric": "f1"}, "micro_f1"),
    ],
)
def test_a_value_out_of_range(fields, message):
    with pytest.raises(ValidationError, match=message):
        task(**fields)


def test_a_batch_has_the_shapes_of_the_plan(tokenizer):
    found = built()
    batch = batch_of(found, encoded(found, "train", tokenizer), tokenizer)
    planned = task(labels=["x", "y", "z"]).example(BuildContext(), 4, None)
    assert [*batch.inputs[""], *batch.targets] == list(planned)
    assert [name for name in planned if planned[name].target] == ["labels"]
    assert batch.targets["labels"].shape == planned["labels"].shape
    assert str(batch.targets["labels"].dtype) == f"torch.{planned['labels'].dtype}"


def test_the_loss_is_over_what_is_known():
    labels = torch.tensor([[1.0, 0.0], [NAN, 1.0], [NAN, NAN]])
    logits = torch.tensor([[2.0, -1.0], [7.0, 0.5], [3.0, 4.0]], requires_grad=True)
    mean = loss_of(built(), logits, labels)
    known = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 1.0])
    )
    assert mean.value.item() == pytest.approx(known.item())
    mean.value.backward()
    assert logits.grad[2].abs().sum() == 0
    assert logits.grad[1, 0] == 0


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_metrics_are_those_of_torchmetrics(threshold):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(20, 3, generator=generator), torch.randint(0, 2, (20, 3), generator=generator).float()
    found = metrics_of(built(threshold=threshold), [logits[:7], logits[7:]], [labels[:7], labels[7:]])
    for average in ("micro", "macro"):
        known = multilabel_f1_score(logits.sigmoid(), labels.int(), 3, threshold=threshold, average=average)
        assert found[f"{average}_f1"] == pytest.approx(known.item())
    right = ((logits.sigmoid() > threshold) == (labels == 1)).all(1)
    assert found["subset_accuracy"] == pytest.approx(right.double().mean().item())


def test_metrics_leave_out_what_is_not_known():
    logits = torch.tensor([[9.0, -9.0], [9.0, 9.0]])
    assert metrics_of(built(), [logits], [torch.tensor([[1.0, 0.0], [NAN, 0.0]])]) == {
        "micro_f1": pytest.approx(2 / 3),
        "macro_f1": pytest.approx(0.5),
        "subset_accuracy": 1.0,
    }
    assert metrics_of(built(), [logits], [torch.full((2, 2), NAN)]) == {}


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 1.0), (0.2, 0.5)])
def test_models_agree_on_decisions_at_the_threshold(threshold, expected):
    """With probabilities below a half neither model gives any label at 0.5; at 0.2 one of them does."""
    mine = torch.tensor([[0.3, 0.1], [0.4, 0.3]]).logit()
    theirs = torch.tensor([[0.1, 0.1], [0.1, 0.3]]).logit()
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert agreement_of(built(threshold=threshold), [mine], [theirs], [labels]) == expected


def test_models_agree_on_known_decisions():
    mine, theirs = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert agreement_of(built(), [mine], [theirs], [torch.tensor([[1.0, NAN], [0.0, 1.0]])]) == 1.0
    assert agreement_of(built(), [mine], [theirs], [torch.full((2, 2), NAN)]) == 0.75


# How lists are written

GENRES = ["plot", "music", "cast"]


def told(splits, *heads, **fields):
    """The built task, and what was told."""
    messages = []
    found = task(splits, **fields).build(TaskContext(heads=heads, tell=messages.append))
    assert {fault.code for fault in messages} <= {"KD316"}
    return found, [fault.message for fault in messages]


def columns(*values):
    return {"text": ["a"] * len(values), "label": list(values)}


VECTORS = {
    "integers": ([[0, 1, 0], [1, 0, 0], [1, 1, 0]], {}),
    "floats": ([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], {}),
    "booleans": ([[False, True, False], [True, False, False], [True, True, False]], {}),
    "texts": (["0 1 0", "1 0 0", " 1  1 0"], {"separator": " "}),
    "commas": (["0,1,0", "1,0,0", "1,1,0"], {"separator": ","}),
    "lists in texts": (["[0, 1, 0]", "[1, 0, 0]", "[1, 1, 0]"], {}),
    "of numpy": (["[0 1 0]", "[1. 0. 0.]", "[1 1 0]"], {}),
}


@pytest.mark.parametrize(("values", "fields"), VECTORS.values(), ids=VECTORS.keys())
def test_vectors_are_read_with_the_names_of_labels_or_of_a_head(values, fields):
    right = [[0, 1, 0], [1, 0, 0], [1, 1, 0]]
    found, messages = told({"train": columns(*values)}, labels=GENRES, **fields)
    assert (found.head.labels, cached_teachers(found)) == (tuple(GENRES), right)
    assert messages == ["no row of `train` has the label `cast`"]
    head = TrainedHead(model="teacher", classes=3, labels=tuple(GENRES))
    found, messages = told({"train": columns(*values)}, head, **fields)
    assert (found.head.labels, cached_teachers(found)) == (tuple(GENRES), right)
    assert messages == [
        "the lists in `label` are vectors of 3 numbers, each 0 or 1: they have the names of `teacher`, `plot`, `music`, `cast`"
    ]
    with pytest.raises(Fault, match="vectors of 3 numbers, each 0 or 1, and nothing names the 3 labels") as caught:
        built({"train": columns(*values)}, **fields)
    assert (caught.value.code, caught.value.at) == ("KD312", ("label", 0))
    assert caught.value.help == "write the 3 names in the order of the numbers: `labels: [label1, label2, label3]`"
    with pytest.raises(Fault, match="`labels` has 2 names"):
        built({"train": columns(*values)}, labels=["plot", "music"], **fields)


def test_a_vector_may_have_labels_that_are_not_known():
    found = built({"train": columns([0, 1, 0], [1, -1, 0], None)}, labels=GENRES)
    assert cached_teachers(found) == [[0, 1, 0], [1, "?", 0], ["?"] * 3]


def test_lists_of_numbers_that_are_no_vectors():
    found = built({"train": columns([0], [1, 2], [2, 0, 1])}, labels=GENRES)
    assert cached_teachers(found) == [[1, 0, 0], [0, 1, 1], [1, 1, 1]]
    assert cached_teachers(built({"train": columns([0, 1], [1], [0])})) == [[1, 1], [0, 1], [1, 0]]
    assert cached_teachers(built({"train": columns([10], [9, 2])})) == [[0, 0, 1], [1, 1, 0]]
    assert built({"train": columns([10], [9, 2])}).head.labels == ("2", "9", "10")


def test_probabilities_are_refused():
    with pytest.raises(Fault, match=r"row 2 of `train` has a vector with `0\.7` in `label`, neither 0 nor 1"):
        built({"train": columns([1.0, 0.0], [0.7, 0.3])}, labels=["x", "y"])


@pytest.mark.parametrize("value", [["x", "y", "x"], ["x", " x"]])
def test_a_label_twice_in_a_row(value):
    with pytest.raises(Fault, match="row 2 of `train` has the label `x` twice in `label`") as caught:
        built({"train": columns(["x", "y"], value)})
    assert (caught.value.code, caught.value.at) == ("KD502", ("label", 0))
    with pytest.raises(Fault, match="row 1 of `train` has the label `0` twice") as caught:
        built({"train": columns([0, 1, 0], [0, 1])})
    assert caught.value.help == "a vector of 0 and 1 must be as long in every row"


@pytest.mark.parametrize("fields", [{}, {"separator": ","}, {"separator": ";"}])
def test_a_written_list_is_read_as_one(fields):
    values = ["['plot', 'music']", "[]", '["cast"]', "['music' 'cast']"]
    assert cached_teachers(built({"train": columns(*values)}, labels=GENRES, **fields)) == [
        [1, 1, 0],
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 1],
    ]


def test_a_written_list_that_cannot_be_read():
    for fields in ({}, {"separator": ","}):
        with pytest.raises(Fault, match="row 2 of `train` has a written list in `label` that cannot be read") as caught:
            built({"train": columns("['plot', 'music']", "['plot', 'mu")}, **fields)
        assert caught.value.help == 'write it as JSON: `["first", "second"]`, or `[]` for no label'


@pytest.mark.parametrize(
    ("values", "help_"),
    [
        (["plot", "plot;music"], "write the separator of the labels: `separator: ';'`"),
        (["plot, music"], "write the separator of the labels: `separator: ','`"),
        (["0 1 0"], "for vectors write `separator: ' '`, and `labels` with their 3 names"),
        (["0,1,0"], "for vectors write `separator: ','`, and `labels` with their 3 names"),
        (
            ["plot", "cast"],
            "write lists of labels, or the `separator` of labels in a text: with `separator: ';'` each of these is one label",
        ),
    ],
)
def test_the_advice_for_texts_works(values, help_):
    with pytest.raises(Fault) as caught:
        built({"train": columns(*values)})
    assert caught.value.help == help_
    separator = re.search("separator: '(.)'", help_)[1]
    built({"train": columns(*values)}, separator=separator, labels=GENRES)


@pytest.mark.parametrize("fields", [{"missing": "?"}, {"missing": ["-", "?"]}])
def test_marks_of_rows_whose_labels_are_not_known(fields):
    assert cached_teachers(built({"train": columns(["x"], ["?"], ["y", "x"])}, **fields)) == [[1, 0], ["?"] * 2, [1, 1]]
    values = columns("x", "?", "x;y", "")
    assert cached_teachers(built({"train": values}, separator=";", **fields)) == [[1, 0], ["?"] * 2, [1, 1], [0, 0]]


def test_a_split_without_any_label_is_unlabelled():
    found, messages = told({"train": columns("x", "y;x"), "test": columns("", "")}, separator=";")
    assert (found.labelled("test"), found.labelled("train")) == (0, 2)
    assert messages == ["no row of `test` has a label in `label`: they count as rows whose labels are not known"]


def test_minus_one_in_columns_of_0_and_1_is_not_known():
    test = {"text": ["a", "b"], "x": [-1, -1], "y": [-1, -1]}
    found, messages = told({"train": {"text": ["a", "b"], "x": [1, 0], "y": [0, 1]}, "test": test}, label=["x", "y"])
    assert cached_teachers(found, "test") == [["?", "?"]] * 2
    assert messages == ["4 values of the label columns of `test` are -1: they count as labels that are not known"]


def test_labels_are_needed_where_a_loss_reads_them():
    splits = {"train": {"text": ["a", "b"]}}
    head = TrainedHead(model="teacher", classes=3, labels=tuple(GENRES))
    found = task(splits).build(TaskContext(heads=(head,), reads_labels=False))
    assert (found.head.labels, cached_teachers(found)) == (tuple(GENRES), [["?"] * 3] * 2)
    assert task(splits, labels=GENRES).build(TaskContext(reads_labels=False)).head.labels == tuple(GENRES)
    assert task(splits, label=GENRES).build(TaskContext(reads_labels=False)).labelled("train") == 0
    with pytest.raises(Fault, match="no column `label`"):
        built(splits)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from((0, 1)), min_size=3, max_size=3), min_size=1), st.data())
def test_vectors_and_lists_of_the_same_labels_are_the_same(rows, data):
    write = data.draw(
        st.sampled_from((str, lambda row: [float(value) for value in row], lambda row: [*map(bool, row)]))
    )
    vectors = built({"train": columns(*map(write, rows))}, labels=GENRES)
    lists = [[name for name, value in zip(GENRES, row, strict=True) if value] for row in rows]
    assert cached_teachers(vectors) == rows
    if any(lists):
        assert cached_teachers(built({"train": columns(*lists)}, labels=GENRES)) == rows
