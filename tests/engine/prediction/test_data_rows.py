"""The rows of a file for a task, and for the result."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import datasets
import pytest

from kdspec import DatasetContext, Fault
from kdspec.engine.prediction.data_rows import DataRows


def rows(*given, labels=()):
    return DataRows.of(datasets.Dataset.from_list(list(given)), "new.jsonl", labels)


def test_a_task_sees_texts_without_labels():
    data = rows({"text": "a", "label": "x", "n": 1}, {"text": "", "label": "y", "n": 2}, labels=["label"])
    made = data.build(DatasetContext(reads=("text", "label"), inputs=("text",)))["train"]
    assert (made.column_names, made["text"][:]) == (["text"], ["a"])
    assert (data.kept, len(data)) == ([0], 2)


def test_lists_without_words_are_no_texts():
    data = rows({"tokens": ["a"]}, {"tokens": []}, {"tokens": None})
    assert data.build(DatasetContext(inputs=("tokens",)))["train"]["tokens"][:] == [["a"]]


def test_a_missing_column_is_told_with_what_is_near():
    with pytest.raises(Fault) as raised:
        rows({"texts": "a", "n": 1}).build(DatasetContext(inputs=("text",)))
    assert raised.value.args == ("`new.jsonl` has no column `text`, which the model reads",)
    assert raised.value.help == "did you mean `texts`? its columns are `texts`, `n`"


def test_own_columns_are_json():
    at = dt.datetime(2024, 5, 1, 12, 30)  # noqa: DTZ001 - as a file has it
    own = {
        "n": 1,
        "x": 0.5,
        "nan": float("nan"),
        "at": at,
        "price": Decimal("1.50"),
        "map": {"a": [1.5, None]},
        "yes": True,
    }
    assert list(rows(own).own()) == [
        {**own, "nan": None, "at": "2024-05-01T12:30:00", "price": "1.50"},
    ]


def test_bytes_are_refused():
    with pytest.raises(Fault, match="has a bytes, which JSON"):
        list(rows({"image": b"x"}).own())
