"""Splits that are shares of the training rows."""

from __future__ import annotations

import re
from collections import Counter

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.api.kinds.context import DatasetContext
from kdspec.data.files.shares import parted
from kdspec.diagnostics.fault import Fault

SHARES = {"validation": 0.15, "test": 0.1}


def made(columns, shares=None, seed=0, together=("text",), classes=("label",)):
    context = DatasetContext(seed=seed, together=together, classes=classes)
    found = parted(datasets.Dataset.from_dict(columns), shares or SHARES, context)
    return {split: rows.to_dict() for split, rows in found.items()}


def rows_of(found, split):
    return list(zip(found[split]["text"], found[split]["label"], strict=True))


COLUMNS = {"text": [f"text {n}" for n in range(400)], "label": ["abcd"[min(n % 10, 3)] for n in range(400)]}


def test_each_split_has_its_share_of_each_class():
    found = made(COLUMNS)
    assert {split: len(of["text"]) for split, of in found.items()} == {"validation": 60, "test": 40, "train": 300}
    whole = Counter(COLUMNS["label"])
    for split, share in (("validation", 0.15), ("test", 0.1), ("train", 0.75)):
        for label, count in Counter(found[split]["label"]).items():
            assert abs(count - share * whole[label]) <= 2, (split, label)


def test_all_rows_are_there_once_and_in_the_order_of_the_file():
    found = made(COLUMNS)
    texts = [text for split in found for text in found[split]["text"]]
    assert sorted(texts) == sorted(COLUMNS["text"])
    order = {text: number for number, text in enumerate(COLUMNS["text"])}
    for of in found.values():
        assert of["text"] == sorted(of["text"], key=order.get)


def test_a_split_depends_on_the_seed_and_the_rows_alone():
    one = made(COLUMNS)
    assert made(COLUMNS) == one
    assert made(COLUMNS, {"validation": 0.15})["validation"] == one["validation"]
    assert made(COLUMNS, seed=1)["validation"] != one["validation"]
    turned = {name: values[::-1] for name, values in COLUMNS.items()}
    assert sorted(made(turned)["validation"]["text"]) == sorted(one["validation"]["text"])


def test_a_class_with_one_row_stays_in_train():
    labels = ["rare", *["a", "b"] * 20]
    found = made({"text": [f"t{n}" for n in range(41)], "label": labels}, {"validation": 0.5})
    assert "rare" in found["train"]["label"]
    assert "rare" not in found["validation"]["label"]


def test_rows_without_a_class_are_divided_too():
    found = made({"text": [f"t{n}" for n in range(100)], "label": [""] * 50 + ["a", "b"] * 25}, {"test": 0.2})
    assert 8 <= found["test"]["label"].count("") <= 12


def test_without_classes_rows_are_drawn():
    columns = {"text": [f"t{n}" for n in range(100)], "label": [n / 100 for n in range(100)]}
    found = made(columns, classes=())
    assert [len(found[split]["text"]) for split in ("validation", "test", "train")] == [15, 10, 75]


@pytest.mark.parametrize("together", [("text",), ()])
def test_equal_texts_are_in_one_split(together):
    texts = [f"{'Text' if n % 2 else ' text'}  {n // 8}" for n in range(160)]
    found = made({"text": texts, "label": ["a", "b"] * 80}, together=together)
    parts = [{" ".join(text.split()).lower() for text in of["text"]} for of in found.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20


def test_a_share_without_a_row_is_refused():
    file = "write a file of its own for `test`"
    for columns, help_ in (
        ({"text": ["x", "y", "z"], "label": ["a", "b", "a"]}, "write `test: 0.175`, or a file of its own"),
        ({"text": [f"t{n}" for n in range(50)], "label": [f"id{n}" for n in range(50)]}, file),
        ({"text": ["same"] * 50, "label": ["a", "b"] * 25}, file),
    ):
        with pytest.raises(Fault, match=f"would have no row: `train` has {len(columns['text'])} in all") as caught:
            made(columns, {"test": 0.1})
        assert (caught.value.code, caught.value.at) == ("KD502", ("test",))
        assert caught.value.help == help_


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), st.floats(0.01, 0.98), st.integers(0, 5))
def test_the_share_of_the_help_works(texts, share, seed):
    columns = {"text": texts, "label": [None] * len(texts)}
    try:
        made(columns, {"test": share}, seed)
    except Fault as fault:
        found = re.search(r"`test: ([\d.]+)`", fault.help)
        if found is None:
            assert len(set(texts)) == 1
        else:
            assert all(of["text"] for of in made(columns, {"test": float(found[1])}, seed).values())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh "), st.sampled_from(["x", "y", "z", None])), min_size=1, max_size=60),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
    st.integers(0, 5),
)
def test_shares_of_any_rows(rows, validation, test, seed):
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    try:
        found = made(columns, {"validation": validation, "test": test}, seed)
    except Fault:
        return
    assert Counter(row for split in found for row in rows_of(found, split)) == Counter(rows)
    parts = [set(of["text"]) for of in found.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
