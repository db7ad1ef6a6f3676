"""Objects in JSON as columns."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.data.files.file_text import FileMistake
from kdspec.data.files.json_rows import HALF, json_columns, read_json


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "data"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def mistake(action):
    with pytest.raises(FileMistake) as caught:
        action()
    return caught.value


def test_objects_one_a_line(file):
    path = file('{"a": 1, "b": "x"}\n\n{"b": null, "a": 2.5, "c": [1]}\r\n')
    assert read_json(path) == {"a": [1, 2.5], "b": ["x", None], "c": [None, [1]]}


def test_objects_in_an_array(file):
    assert read_json(file('\n[{"a": 1},\n {"a": 2}]')) == {"a": [1, 2]}
    assert read_json(file('{"data": [{"a": 1}], "version": 1}'), "data") == {"a": [1]}
    assert read_json(file("[]")) == {}


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        ("", (0, 0), "the file is empty"),
        ('{"a": 1}\n{"a": }\n', (2, 7), "not JSON: expecting value"),
        ('{"a": 1}{"a": 2}\n', (1, 9), "not JSON: extra data"),
        ('[{"a": 1},\n {"a" 2}]', (2, 7), "not JSON: expecting ':' delimiter"),
        ('{"a": 1}\n3\n', (2, 0), "a number in place of an object"),
        ('[{"a": 1}, null]', (0, 0), "row 2: null in place of an object"),
        ('{"a": 1}\n{"a": "x"}\n', (2, 0), "`a` is a text here and a number in earlier rows"),
        ('{"a": true}\n{"a": 1}\n', (2, 0), "`a` is a number here and a boolean in earlier rows"),
        ("[" * 100_000, (1, 0), "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", (1, 0), "a number has too many digits"),
        (b'{"a": "\xff"}', (1, 8), "this is not UTF-8"),
    ],
)
def test_json_that_is_none(file, content, place, says):
    found = mistake(lambda: read_json(file(content)))
    assert ((found.line, found.column), found.message) == (place, says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"dta": []}', "there is no key `data`"),
        ("[1]", "there is no key `data`"),
        ('{"data": {}}', "the value of `data` is an object, not a list"),
    ],
)
def test_the_key_of_the_rows(file, content, says):
    assert mistake(lambda: read_json(file(content), "data")).message == says


def test_the_columns_of_objects_are_those_of_all_of_them(file):
    assert json_columns(file('{"a": 1}\n{"b": 2}\n'), None) == ["a", "b"]
    assert json_columns(file('{"rows": [{"a": 1}]}'), "rows") == ["a"]
    assert json_columns(file("{"), None) is None
    assert json_columns(file('{"a": 1}\n' * 500_000), None) is None


def test_a_file_of_another_kind_is_told_at_once(file):
    assert "cannot be read" in mistake(lambda: json_columns(file("").with_name("gone"), None)).message
    assert "gzip" in mistake(lambda: json_columns(file(b"\x1f\x8b\x08"), None)).message
    assert "UTF-16" in mistake(lambda: json_columns(file('{"a": 1}'.encode("utf-16")), None)).message


# Values that do not fit


@pytest.mark.parametrize(
    ("rows", "line", "says"),
    [
        ([{"a": [1]}, {"a": [2, "one"]}], 2, "`a` has a number, `2`, and a text, `one`, in one list"),
        ([{"a": ["x"]}, {"a": None}, {"a": [1]}], 3, "`a[]` is a number, `1`, here and a text in earlier rows"),
        ([{"a": [[1], ["x"]]}], 1, "`a[][]` is a text, `x`, here and a number in earlier rows"),
        ([{"a": {"b": 1}}, {"a": {"b": "x"}}], 2, "`a.b` is a text here and a number in earlier rows"),
        ([{"a": [None, 1]}, {"a": [True]}], 2, "`a[]` is a boolean, `True`, here and a number in earlier rows"),
    ],
)
def test_values_of_mixed_kinds_are_named(rows, line, says, file):
    found = mistake(lambda: read_json(file("\n".join(map(json.dumps, rows)))))
    assert (found.line, found.message) == (line, says)
    assert mistake(lambda: read_json(file(json.dumps(rows)))).message == f"row {line}: {says}"


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (r'{"id": 1, "text": "a \ud83d"}', 22),
        (r'{"text": "\ud83d\ude00 \udc00 x"}', 24),
        (r'{"text": "\\ud83d \ud83d\n"}', 19),
        (r'{"text": "\ud83d\ud83d\ude00"}', 11),
        (r'{"x": "\ud83d\ude00", "text": ["a", "\ude00"]}', 38),
    ],
)
def test_half_of_a_character_is_named_with_its_place(line, column, file):
    found = mistake(lambda: read_json(file('{"other": 1}\n' + line)))
    assert HALF in found.message
    assert (found.line, found.column) == (2, column)


@pytest.mark.parametrize("bad", ["\ud83d", 2, ["x", 1]])
def test_a_column_that_nothing_reads_does_not_matter(bad, file):
    rows = [{"text": "a", "raw": "x"}, {"text": "b", "raw": bad}, {"text": "c", "raw": "y"}]
    path = file("\n".join(map(json.dumps, rows)))
    assert read_json(path, None, lambda name: name == "text") == {"text": ["a", "b", "c"]}
    assert mistake(lambda: read_json(path)).line == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text("ab\ud83d\ude00", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_what_is_read_fits_in_a_column(values):
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("".join(json.dumps({"a": value}) + "\n" for value in values))
        try:
            found, line = read_json(path)["a"], None
        except FileMistake as refused:
            found, line = [], refused.line
        if line is None:
            assert len(pa.array(found)) == len(values)
        else:
            # Arrow takes a boolean among numbers for one; a list in place of an object, for none.
            pa.array(json.loads(json.dumps(values[: line - 1])))
