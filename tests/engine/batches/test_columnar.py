from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.engine.batches.columnar import Packed, packed

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200)
ROWS = st.lists(
    st.fixed_dictionaries({"input_ids": st.lists(NUMBERS), "label": st.integers() | st.none(), "text": st.text()}),
    min_size=1,
)


@given(ROWS)
def test_rows_are_as_they_were(rows):
    found = packed([dict(row) for row in rows])
    assert len(found) == len(rows)
    assert list(found) == rows
    assert found[-1] == rows[-1]
    assert found[1:3] == rows[1:3]


@given(ROWS)
def test_lengths_are_those_of_the_lists(rows):
    found = packed(rows)
    lengths = found.lengths("input_ids")
    if any(row["input_ids"] for row in rows):
        assert lengths.tolist() == [len(row["input_ids"]) for row in rows]
    assert found.lengths("label") is None
    assert found.lengths("absent") is None


@pytest.mark.parametrize(
    "values",
    [[[1, True]], [[1.5, 2]], [["a"]], [[[1], [2]]], [[2**70]], [(1, 2)], [np.array([1, 2])]],
    ids=["bool", "float", "text", "nested", "huge", "tuple", "array"],
)
def test_what_is_no_list_of_plain_integers_stays_the_same_object(values):
    found = packed([{"x": value} for value in values])
    assert all(row["x"] is value for row, value in zip(found, values, strict=True))


def test_rows_of_differing_keys_and_sequences_of_others_are_left_alone():
    uneven = [{"a": [1]}, {"b": [1]}]
    assert packed(uneven) is uneven
    whole = ({"a": [1]},)
    assert packed(whole) is whole
    assert packed([]) == []


def test_a_row_that_is_changed_by_its_reader_is_read_unchanged_again():
    found = packed([{"a": [1, 2]}])
    found[0]["a"].append(3)
    assert found[0]["a"] == [1, 2]


def test_an_index_past_the_end_is_an_error():
    with pytest.raises(IndexError):
        packed([{"a": [1]}])[1]


def test_packed_rows_take_a_fraction_of_the_memory():
    def rows():
        return [{"input_ids": [number % 30000 + place for place in range(40)]} for number in range(500)]

    tracemalloc.start()
    try:
        plain = rows()
        before = tracemalloc.get_traced_memory()[0]
        made = packed(plain)
        small = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert isinstance(made, Packed)
    assert small < before / 5


def test_an_entry_that_no_row_has_is_none_for_each():
    rows = packed([{"row": 1}, {"row": 2}])
    assert list(rows.column("row")) == [1, 2]
    assert list(rows.column("input_ids")) == [None, None]


@pytest.mark.parametrize("rows", [[], [0], [3, 1, 1], [4, 3, 2, 1, 0], [2]])
def test_several_rows_are_those_taken_one_by_one(rows):
    examples = [{"ids": list(range(n)), "words": [str(n)], "types": [0] * (4 - n)} for n in range(5)]
    table = packed(examples)
    assert table.take(rows) == [examples[row] for row in rows]
