"""The columns that a task asks its rows for."""

from __future__ import annotations

import pytest

from kdspec.data.columns import missing


def told(**splits):
    return [(f.message, f.help, f.fix) for f in missing(splits, {("text",): "text"}, {("label",): "label"})]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_what_is_trained_and_evaluated_has_labels(split):
    splits = {"train": ("text", "label"), "validation": ("text", "label"), split: ("text",)}
    ((message, _, _),) = told(**splits)
    assert message == f"the split `{split}` has no column `label`"


def test_other_splits_need_no_labels():
    assert told(train=("text", "label"), test=("text",), unlabelled=("text",)) == []


def test_a_near_name_is_proposed_for_a_column_that_no_row_has():
    ((_, help_, fix),) = told(train=("text", "lable"))
    assert help_ == "did you mean `lable`? the columns are `text`, `lable`"
    assert fix == ("label", "lable")


@pytest.mark.parametrize("name", ["", " ", "Unnamed: 0"])
def test_a_column_without_a_name_cannot_be_asked_for(name):
    (found,) = missing({"train": ("text",)}, {("text",): name}, {})
    assert found.help.startswith("a column without a name cannot be read: write its name into the first line")
    assert found.fix is None


def test_no_name_is_proposed_for_a_column_that_the_training_rows_have():
    ((_, help_, fix),) = told(train=("text", "label"), validation=("text", "lable"))
    assert help_ == "the columns are `text`, `lable`"
    assert fix is None
