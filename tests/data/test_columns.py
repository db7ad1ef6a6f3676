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
            "the columns are `sentence`, `sentiment`, `split`",
        ),
        (
            ("root:*:20228:0:99999:7:::",),
            "the file has 1 column, not shown since the spec names none of them: look it up in the file",
        ),
        (("hunter2",), "the file has 1 column, not shown since the spec names none of them: look it up in the file"),
        (
            ("hunter2", "x"),
            "the file has 2 columns, not shown since the spec names none of them: look them up in the file",
        ),
        (("text", "hunter2"), "the columns are `text`, `hunter2`"),
        (("Texts", "x"), "did you mean `Texts`? the columns are `Texts`, `x`"),
        (("TEXT", "x"), "did you mean `TEXT`? the columns are `TEXT`, `x`"),
        ((" text ", "x"), "did you mean ` text `? the columns are ` text `, `x`"),
    ],
)
def test_other_columns_are_told_of_a_table_that_the_spec_asks_about(names, help_):
    found = list(
        missing({"train": names}, {("text",): "text"} if "text" not in names else {("b",): "b"}, {}, ("text",))
    )
    assert found[0].help == help_


@pytest.mark.parametrize("column", ["review_body", "REVIEW-BODY", "review  body", "Reveiw Body"])
def test_a_name_is_near_whatever_its_case_and_spaces(column):
    (found,) = missing({"train": ("Day", "Review Body", "Store")}, {("text",): column}, {})
    assert found.help == "did you mean `Review Body`? the columns are `Day`, `Review Body`, `Store`"
    assert found.fix == (column, "Review Body")


def test_a_name_that_fits_two_columns_is_no_fix():
    (found,) = missing({"train": ("Text", "TEXT")}, {("text",): "text"}, {})
    assert found.help == "did you mean `Text` or `TEXT`? the columns are `Text`, `TEXT`"
    assert found.fix is None


def test_columns_are_listed_if_another_parameter_is_near_to_one():
    found = missing({"train": ("Review Body", "Stars given")}, {("text",): "review_body"}, {("label",): "Sterne"})
    assert [fault.help.rpartition("? ")[2] for fault in found] == ["the columns are `Review Body`, `Stars given`"] * 2


def test_of_many_columns_the_message_has_the_number_of_the_rest():
    (found,) = missing({"train": ["text", *(f"c{n}" for n in range(30))]}, {("text",): "zzz"}, {})
    assert found.help.endswith("`c17`, `c18` and 11 more")
