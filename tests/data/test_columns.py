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


@pytest.mark.parametrize(("mark", "written"), [(";", '";"'), ("\t", '"\\t"'), ("|", '"|"'), (",", '","')])
def test_another_delimiter_is_named_where_all_columns_were_read_as_one(mark, written):
    (text, _) = told(train=(f"id{mark}text{mark}label",))
    assert text[1].endswith(f"write `delimiter: {written}`; the columns are `{text[1].rpartition('are `')[2]}")
    assert text[2] is None


@pytest.mark.parametrize("name", ["id;other", "text;text_b;x"])
def test_no_delimiter_is_named_for_a_column_without_the_wanted_name(name):
    helps = [help_ for _, help_, _ in told(train=(name,)) if "delimiter" in help_]
    assert bool(helps) == ("text" in name.split(";"))


def test_two_near_names_are_both_proposed_and_none_is_a_fix():
    (found,) = missing({"train": ("text_1", "text_2")}, {("text",): "text_3"}, {})
    assert found.help.startswith(("did you mean `text_1` or `text_2`? ", "did you mean `text_2` or `text_1`? "))
    assert found.fix is None


@pytest.mark.parametrize(
    ("names", "help_"),
    [
        (
            ("sentence", "sentiment", "split"),
            "the columns are `sentence`, `sentiment` and 1 other, not shown since the spec names none of them",
        ),
        (
            ("root:*:20228:0:99999:7:::",),
            "the file has 1 column, not shown since the spec names none of them",
        ),
        (("hunter2",), "the file has 1 column, not shown since the spec names none of them"),
        (("text", "hunter2"), "the columns are `text`, `hunter2`"),
        (("Texts", "x"), "did you mean `Texts`? the file has 2 columns, not shown since the spec names none of them"),
    ],
)
def test_other_columns_are_told_of_a_table_that_the_spec_asks_about(names, help_):
    found = list(
        missing({"train": names}, {("text",): "text"} if "text" not in names else {("b",): "b"}, {}, ("text",))
    )
    assert found[0].help == help_
