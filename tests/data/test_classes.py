"""The classes of a task, and what is told about them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.api.kinds.context import TaskContext, TrainedHead
from kdspec.data.classes import classes
from kdspec.diagnostics.fault import Fault

NLI = ("contradiction", "neutral", "entailment")
NAMES = st.lists(st.text(string.ascii_lowercase, min_size=3, max_size=8), min_size=2, max_size=12, unique=True)


def head(model="teacher", labels=NLI, classes=None):
    return TrainedHead(model=model, labels=tuple(labels), classes=classes or len(labels))


def settled(splits, *heads, reads_labels=True, **fields):
    """The names, the class of every label of every split, and what was told."""
    told = []
    context = TaskContext(heads=heads, reads_labels=reads_labels, tell=told.append)
    splits = {split: [each if each is None else str(each) for each in of] for split, of in splits.items()}
    found = classes(splits, context, column="label", at=("label",), **fields)
    rows = {split: [found.naming.name(split, label) for label in of] for split, of in splits.items()}
    assert {fault.code for fault in told} <= {"KD316"}
    return found.names, rows, [fault.message for fault in told]


def test_the_names_are_those_of_the_rows_sorted_and_numbers_by_value():
    assert settled({"train": ["b", "a", "b"]})[0] == ("a", "b")
    assert settled({"train": [10, 9, 2, 33, "x"]})[0] == ("2", "9", "10", "33", "x")
    assert settled({"train": ["1e1", "9", ".5", "+3"]})[0] == (".5", "+3", "9", "1e1")


def test_labels_name_numbers_in_the_rows():
    names, rows, told = settled({"train": [0, 1, 2, 1], "test": ["2.0", "0.0"]}, labels=NLI)
    assert names == NLI
    assert rows == {"train": [NLI[0], NLI[1], NLI[2], NLI[1]], "test": [NLI[2], NLI[0]]}
    assert told == []


def test_labels_that_are_numbers_are_compared_as_numbers():
    names, rows, _ = settled({"train": ["0.0", "1.0"]}, labels=["1", "0"])
    assert (names, rows["train"]) == (("1", "0"), ["0", "1"])
    names, rows, _ = settled({"train": ["0.0", "1.0"]}, labels=["1.0", "0.0"])
    assert (names, rows["train"]) == (("1.0", "0.0"), ["0.0", "1.0"])


def test_whole_numbers_are_one_class_in_all_splits_and_codes_are_not():
    names, rows, _ = settled({"train": ["0", "1", "1.0"], "test": ["1.0"]})
    assert (names, rows["train"], rows["test"]) == (("0", "1"), ["0", "1", "1"], ["1"])
    assert settled({"train": ["2.1", "2.10", "1e1", "10", "01", "1"]})[0] == ("01", "1", "2.1", "2.10", "10", "1e1")


def test_a_loaded_head_of_as_many_classes_lends_its_names_to_numbers():
    names, rows, told = settled({"train": [0, 2, 2, 0]}, head("other", "ab"), head(), head("student", "xyz"))
    assert (names, rows["train"]) == (NLI, [NLI[0], NLI[2], NLI[2], NLI[0]])
    assert told == [
        "the numbers in `label` have the names of `teacher`: 0 is `contradiction`, 1 is `neutral`, 2 is `entailment`"
    ]


@pytest.mark.parametrize("values", [[0, 1], [1, 2, 3], ["a", "b", "c"], [0, 1, 2, 3], ["0", "1", "02"]])
def test_a_head_lends_nothing_to_other_labels(values):
    names, rows, told = settled({"train": values}, head())
    assert set(names) == {str(value) for value in values}
    assert rows["train"] == [str(value) for value in values]
    assert not any("have the names" in message for message in told)


def test_a_head_whose_names_are_numbers_lends_none_by_position():
    names, rows, told = settled({"train": [0, 1, 1, 0]}, head("teacher", ("1", "0")))
    assert (names, rows["train"], told) == (("0", "1"), ["0", "1", "1", "0"], [])


def test_what_the_task_or_the_data_set_names_comes_before_a_head():
    assert settled({"train": [0, 1, 2]}, head(), labels=["x", "y", "z"])[0] == ("x", "y", "z")
    assert settled({"train": ["x", "y"]}, head(), declared=["x", "y", "z"])[0] == ("x", "y", "z")
    assert settled({"train": ["0", "1", "2"]}, head(), declared=["0", "1", "2"])[0] == NLI
    assert settled({"train": ["0", "1"]}, declared=["0", "1", "2"])[0] == ("0", "1", "2")


def test_a_head_without_names_has_all_its_numbers():
    names, _, told = settled({"train": [0, 3]}, head("teacher", (), 4))
    assert (names, told) == (("0", "1", "2", "3"), [])


def test_the_other_order_of_a_second_teacher_is_told():
    told = []
    context = TaskContext(heads=(head(), head("second", NLI[::-1])), tell=told.append)
    classes({"train": ["0", "1", "2"]}, context, column="label", at=("label",))
    assert [fault.notes for fault in told] == [
        ("`second` has other names or another order: `entailment`, `neutral`, `contradiction`",)
    ]


def test_a_head_names_the_classes_where_no_row_of_train_has_a_label():
    names, rows, told = settled({"train": [None, None], "test": ["Neutral"]}, head(), reads_labels=False)
    assert names == ("contradiction", "Neutral", "entailment")
    assert rows == {"train": [None, None], "test": ["Neutral"]}
    assert told[0].startswith("no row of `train` has a label in `label`: the classes are those of `teacher`")
    assert settled({"train": []}, head("teacher", (), 3), reads_labels=False)[0] == ("LABEL_0", "LABEL_1", "LABEL_2")
    names, rows, _ = settled({"train": [None], "test": [2, 1]}, head(), reads_labels=False)
    assert (names, rows["test"]) == (NLI, [NLI[2], NLI[1]])


def test_labels_that_a_loss_reads_must_be_there():
    for heads, fields in (((head(),), {}), ((), {"labels": NLI})):
        with pytest.raises(Fault, match="the column `label` of `train` has no labels"):
            settled({"train": [None]}, *heads, **fields)
    assert settled({"train": [None]}, reads_labels=False, labels=NLI)[0] == NLI
    with pytest.raises(Fault, match="no labels"):
        settled({"train": [None]}, reads_labels=False)


def test_minus_one_beside_the_numbers_of_classes_is_no_label():
    names, rows, told = settled({"train": [0, 1, 2, -1], "validation": [-1, 2]})
    assert (names, rows) == (("0", "1", "2"), {"train": ["0", "1", "2", None], "validation": [None, "2"]})
    assert told == ["`-1` in `label` counts as no label beside the numbers 0 to 2: 1 in `train`, 1 in `validation`"]
    assert settled({"train": [0, 1, 2, -1]}, labels=NLI)[1]["train"] == [*NLI, None]
    assert settled({"train": [-1, 0, 1, 2]}, labels=["-1", "0", "1", "2"])[1]["train"] == ["-1", "0", "1", "2"]


@pytest.mark.parametrize("values", [[-1, 1], [-2, -1, 0, 1, 2], [-1, 9, 10], [-1, "a", "b"]])
def test_minus_one_among_others_is_a_class(values):
    names, rows, _ = settled({"train": values})
    assert "-1" in names
    assert rows["train"] == [str(value) for value in values]


def test_a_frequent_minus_one_beside_two_classes_is_asked_about():
    with pytest.raises(Fault, match="10 of 30 labels of `train` in `label` are `-1`") as caught:
        settled({"train": [-1, 0, 1] * 10})
    assert caught.value.help == "write `missing: '-1'` if it means that there is none, else `labels: ['-1', '0', '1']`"
    assert settled({"train": [-1, 0, 1] * 10}, labels=["-1", "0", "1"])[0] == ("-1", "0", "1")
    assert settled({"train": [0, 1] * 10, "test": [-1, 0, 1]})[1]["test"] == [None, "0", "1"]
    assert settled({"train": [-1, 0, 1] * 10}, head("teacher", "ab"))[0] == ("a", "b")


@pytest.mark.parametrize("mark", [-1, "?", "n/a", 99])
def test_a_split_whose_labels_are_all_one_mark_has_none(mark):
    names, rows, told = settled({"train": [0, 1, 2], "test": [mark] * 3})
    assert (names, rows["test"]) == (("0", "1", "2"), [None] * 3)
    assert told == [
        f"all 3 rows of `test` have `{mark}` in `label`, which is no class of `train`: they count as rows without a label"
    ]


def test_a_split_of_one_misspelt_class_has_labels():
    assert settled({"train": ["good", "bad"], "test": ["goood"] * 3})[1]["test"] == ["goood"] * 3


def told(values, **fields):
    return settled({"train": values}, **fields)[2]


def test_labels_that_differ_by_case_or_blanks_alone():
    values = ["positive"] * 20 + ["Positive"] * 2 + ["negative"] * 20 + ["New York", "New\N{NO-BREAK SPACE}York"]
    why = "labels of `label` differ by case or blanks alone, and are classes of their own"
    assert told(values) == [
        f"{why}: `New York` (1 row), `New\N{REPLACEMENT CHARACTER}York` (1 row)",
        f"{why}: `Positive` (2 rows), `positive` (20 rows)",
    ]


@pytest.mark.parametrize(("mark", "others"), [("-", "abc"), ("N/A", "abc"), ("nan", "ab"), ("99", "012"), ("-9", "01")])
def test_a_rare_class_that_looks_like_a_mark(mark, others):
    assert told([*others] * 20 + [mark] * 2) == [
        f"the class `{mark}` of `label` has 2 rows of {20 * len(others) + 2} in `train`"
    ]


@pytest.mark.parametrize(
    "values", ["+-" * 5, "abc" * 5, [*"ab", "none"] * 20, [*"0123"] * 5, [1, 2, 4, 5], ["😀", "😢", "😡"]]
)
def test_classes_that_look_right(values):
    assert told([*values]) == []


def test_scores_as_classes():
    assert told([0.5, 2.45, 3, 4]) == ["the labels in `label` are numbers with fractions, such as `0.5`: 4 classes"]
    assert told([*"abcdef", *"ab"]) == ["4 of the 6 classes in `label` have a single row in `train`"]


def test_a_class_of_labels_that_no_row_has():
    assert told(["loud", "calm"], labels=["loud", "lound", "calm", "clam"]) == [
        "no row of `train` has the label `lound`",
        "no row of `train` has the label `clam`",
    ]
    many = told(["a", "b"], labels=["a", "b", *"cdefghijkl"])
    assert many[-1] == "no row of `train` has 5 more of `labels`"
    assert len(many) == 6


@settings(deadline=None)
@given(NAMES, st.data())
def test_numbers_mean_the_same_with_any_source_of_names(names, data):
    """`labels` and a head of as many names give every number its name, in every split, however whole numbers are written."""
    last = len(names) - 1
    numbers = [*data.draw(st.lists(st.integers(0, last), max_size=20)), last]
    spell = data.draw(st.sampled_from(("{}", "{}.0")))
    splits = {"train": numbers, "test": [spell.format(number) for number in numbers]}
    right = [names[number] for number in numbers]
    for heads, fields in (((), {"labels": names}), ((head("teacher", names),), {})):
        found, rows, _ = settled(splits, *heads, **fields)
        assert (found, rows) == (tuple(names), {"train": right, "test": right})


@settings(deadline=None)
@given(NAMES, st.data())
def test_names_mean_themselves_whatever_else_is_known(names, data):
    rows = [*names, *data.draw(st.lists(st.sampled_from(names)))]
    heads = data.draw(st.lists(NAMES, max_size=3))
    found, named, _ = settled({"train": rows, "test": rows}, *(head(f"m{n}", of) for n, of in enumerate(heads)))
    assert (found, named) == (tuple(sorted(names)), {"train": rows, "test": rows})


@settings(deadline=None)
@given(st.lists(st.integers(-(10**6), 10**6), min_size=2, unique=True).filter(lambda values: min(values) < -200))
def test_numbers_are_in_the_order_of_their_values(values):
    assert settled({"train": values})[0] == tuple(map(str, sorted(values)))
