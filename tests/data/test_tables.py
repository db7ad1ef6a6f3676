"""Data files as columns."""

from __future__ import annotations

import pytest

from kdspec.data.tables import FileMistake, csv_columns, json_columns, read_csv, read_json


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


def test_fields_are_kept_as_they_are_written(file):
    path = file('text,label\n"a, ""b""",1\n"two\nlines",0\n NA ,\n')
    assert read_csv(path, ",", quoting=True) == {"text": ['a, "b"', "two\nlines", " NA "], "label": ["1", "0", ""]}


def test_without_quoting_a_quotation_mark_is_a_character(file):
    path = file('sentence\tlabel\n"unclosed\t1\nhe said "no"\t0\r\n\n')
    assert read_csv(path, "\t", quoting=False) == {"sentence": ['"unclosed', 'he said "no"'], "label": ["1", "0"]}


def test_a_byte_order_mark_is_no_part_of_a_name(file):
    assert list(read_csv(file(b"\xef\xbb\xbfa,b\n1,2\n"), ",", quoting=True)) == ["a", "b"]


def test_other_line_separators_are_text(file):
    path = file("a,b\nx\u2028y,\x0bz\n")
    assert (
        read_csv(path, ",", quoting=False) == read_csv(path, ",", quoting=True) == {"a": ["x\u2028y"], "b": ["\x0bz"]}
    )


def test_names_can_be_given(file):
    assert read_csv(file("1,2\n"), ",", quoting=True, names=["a", "b"]) == {"a": ["1"], "b": ["2"]}


def test_a_file_with_only_a_header_has_no_rows(file):
    assert read_csv(file("a,b\n"), ",", quoting=True) == {"a": [], "b": []}


@pytest.mark.parametrize("quoting", [True, False])
@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("", 0, "the file is empty"),
        ("\n\n", 0, "the file is empty"),
        ("a,b\n1,2\n\n1,2,3\n", 4, "3 fields in a row, and 2 columns"),
        ("a,b\n1\n", 2, "1 field in a row, and 2 columns"),
        ("a,a\n1,2\n", 1, "two columns are named `a`"),
        ("a,\n1,2\n", 1, "a column has no name"),
        (b"a,b\n1,2\n\xe9,2\n", 3, "this is not UTF-8"),
        ("a,b\n".encode("utf-16"), 1, "this is not UTF-8"),
    ],
)
def test_a_table_that_is_none(file, quoting, content, line, says):
    found = mistake(lambda: read_csv(file(content), ",", quoting=quoting))
    assert (found.line, found.message) == (line, says)


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ('a,b\n1,2\n"x,2\n3,4\n', 3, "never closed"),
        ('a,b\n"x"y,2\n', 2, "text follows a closing"),
        ("a,b\n1," + "x" * 200_000 + "\n", 2, "too long"),
    ],
)
def test_quotation_marks_that_do_not_fit(file, content, line, says):
    found = mistake(lambda: read_csv(file(content), ",", quoting=True))
    assert found.line == line
    assert says in found.message
    assert "quoting: false" in found.help


def test_the_row_after_a_field_of_several_lines_has_the_right_line(file):
    assert mistake(lambda: read_csv(file('a,b\n"x\ny",2\n1\n'), ",", quoting=True)).line == 4


def test_the_column_of_a_bad_byte_is_in_characters(file):
    found = mistake(lambda: read_csv(file("a\n\u00e9\u00e9".encode() + b"\xff\n"), ",", quoting=True))
    assert (found.line, found.column) == (2, 3)


def test_a_file_that_cannot_be_read(tmp_path):
    assert "No such file" in mistake(lambda: read_csv(tmp_path / "none", ",", quoting=True)).message
    assert "directory" in mistake(lambda: read_json(tmp_path)).message
    assert mistake(lambda: read_json(tmp_path / "a\0b")).line == 0


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


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a,b\n1,2\n", ["a", "b"]),
        ("a,b", ["a", "b"]),
        ("\ufeffa,b\n", ["a", "b"]),
        ('"a\nb",c\n', ["a\nb", "c"]),
        ('"a,b\n', None),
        (b"\xff,b\n", None),
        ("a," * 40000 + "b\n", None),
    ],
)
def test_the_columns_of_a_table_are_read_from_its_beginning(content, names, file):
    assert csv_columns(file(content), ",", quoting=True) == names


def test_a_header_that_is_wrong_is_reported_at_once(file):
    assert "two columns" in mistake(lambda: csv_columns(file("a,a\n"), ",", quoting=False)).message
    assert "empty" in mistake(lambda: csv_columns(file(""), ",", quoting=False)).message
    assert "cannot be read" in mistake(lambda: csv_columns(file("").with_name("gone"), ",", quoting=False)).message
    assert "cannot be read" in mistake(lambda: json_columns(file("").with_name("gone"), None)).message


def test_the_columns_of_objects_are_those_of_all_of_them(file):
    assert json_columns(file('{"a": 1}\n{"b": 2}\n'), None) == ["a", "b"]
    assert json_columns(file('{"rows": [{"a": 1}]}'), "rows") == ["a"]
    assert json_columns(file("{"), None) is None
    assert json_columns(file('{"a": 1}\n' * 500_000), None) is None
