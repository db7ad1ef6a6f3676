"""Delimited text files as columns."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.data.files import delimited
from kdspec.data.files.delimited import csv_columns, read_csv
from kdspec.data.files.file_text import FileMistake


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
        ("a,a\n1,2\n", 1, "columns 1 and 2 have the same name"),
        (",\n1,2\n", 1, "no column has a name"),
        (b"a,b\n1,2\n\xe9,2\n", 3, "this is not UTF-8"),
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
    assert "directory" in mistake(lambda: read_csv(tmp_path, ",", quoting=True)).message
    assert mistake(lambda: read_csv(tmp_path / "a\0b", ",", quoting=True)).line == 0


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
    assert "have the same name" in mistake(lambda: csv_columns(file("a,a\n"), ",", quoting=False)).message
    assert "empty" in mistake(lambda: csv_columns(file(""), ",", quoting=False)).message
    assert "cannot be read" in mistake(lambda: csv_columns(file("").with_name("gone"), ",", quoting=False)).message


# Tabs


TABS = ('text\tlabel\n"a\t1\nb"\t0\nc\t1\n', 'text\tlabel\nhe said "a\t1\nc\t1\n"d\t0\ne"\t1\n')


@pytest.mark.parametrize("content", TABS)
def test_with_tabs_a_quotation_mark_is_a_character_by_default(content, file):
    found = read_csv(file(content), "\t", quoting=None)
    assert len(found["label"]) == content.count("\n") - 1
    assert found == read_csv(file(content), "\t", quoting=False)


@pytest.mark.parametrize(("content", "line"), [(TABS[0], 2), (TABS[1], 4)])
def test_with_tabs_a_field_does_not_enclose_rows(content, line, file):
    found = mistake(lambda: read_csv(file(content), "\t", quoting=True))
    assert (found.line, found.message) == (line, "quotation marks make one row of 2 lines")
    assert found.help == "the file needs `quoting: false`"
    assert len(read_csv(file(content), "\t", quoting=False)["text"]) == content.count("\n") - 1


def test_a_quoted_field_with_a_line_end_or_the_delimiter_is_no_mistake(file):
    quoted = 'text\tlabel\n"a\nb"\t0\n"c\td"\t1\n"e\n\n\tf\ng"\t1\n'
    assert read_csv(file(quoted), "\t", quoting=True)["text"] == ["a\nb", "c\td", "e\n\n\tf\ng"]
    commas = 'text,label\n"Dear all,\nI like it",1\n'
    assert read_csv(file(commas), ",", quoting=None)["text"] == ["Dear all,\nI like it"]


@pytest.mark.parametrize(
    ("content", "line"),
    [('text\tlabel\na\t1\n"he said ""no"""\t0\n', 3), ('"text"\t"label"\n"a"\t"1"\n', 1)],
)
def test_a_tab_file_that_is_quoted_like_a_csv_file_is_not_guessed(content, line, file):
    found = mistake(lambda: read_csv(file(content), "\t", quoting=None))
    assert (found.line, "`quoting: true`, or `quoting: false`" in found.help) == (line, True)
    assert '"' not in read_csv(file(content), "\t", quoting=True)["text"][0]
    assert read_csv(file(content), "\t", quoting=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text("ab\"'", max_size=8), st.sampled_from("01")), min_size=1, max_size=6))
def test_each_line_of_a_tab_file_is_a_row(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tsv")
        path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
        try:
            found = read_csv(path, "\t", quoting=None)
        except FileMistake as refused:
            found = (
                read_csv(path, "\t", quoting=False) if "`quoting: true`, or `quoting: false`" in refused.help else {}
            )
        assert list(zip(found["text"], found["label"], strict=True)) == rows


# Names, headers, lengths


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (",text,label\n0,a,1\n1,b,0\n", {"text": ["a", "b"], "label": ["1", "0"]}),
        ("text,label,\na,1,\n", {"text": ["a"], "label": ["1"]}),
        (",text, ,label\n0,a,x,1\n", {"text": ["a"], "label": ["1"]}),
    ],
)
def test_a_column_without_a_name_is_passed_over(content, expected, file):
    assert read_csv(file(content), ",", quoting=True) == expected
    assert csv_columns(file(content), ",", quoting=True) == list(expected)


def test_a_name_that_is_given_may_be_empty(file):
    assert read_csv(file("0,a\n"), ",", quoting=True, names=["", "text"]) == {"text": ["a"]}
    assert csv_columns(file("0,a\n"), ",", quoting=True, names=["", "text"]) == ["text"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("text,label\na,x\nb,y\n", ["text", "label"]),
        ("Text , LABEL\na,x\nb,y\n", ["text", "label"]),
        ("label,text\nx,a\n", ["text", "label"]),
        ("sentence,label\na,0\nb,1\n", ["text", "label"]),
        ("sentence,label\na,x\nb,y\nc,x\nd,y\n", ["text", "label"]),
        ("text\na\n", ["text"]),
    ],
)
def test_a_header_is_not_read_as_a_row(content, names, file):
    found = mistake(lambda: read_csv(file(content), ",", quoting=True, names=names))
    assert (found.line, found.help) == (1, "remove `columns`")
    assert found.message.startswith("the first row is a header")
    assert read_csv(file(content), ",", quoting=True)


@pytest.mark.parametrize(
    "content", ["text,noun\nrun,verb\n", "label,x\nlabel,y\nb,x\n", "text,x\na,y\nb,x\n", "0,1\n1,0\n"]
)
def test_a_first_row_that_holds_a_column_s_name_is_no_header_yet(content, file):
    assert len(read_csv(file(content), ",", quoting=True, names=["text", "pos"])["text"]) == content.count("\n")


def test_a_header_is_seen_before_the_run(file):
    content = "text,label\na,x\n"
    found = mistake(lambda: csv_columns(file(content), ",", quoting=True, names=["text", "label"]))
    assert found.help == "remove `columns`"


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_field_of_any_length_is_read(quote, file):
    before = csv.field_size_limit()
    content = f'text,label\n"a\nb",1\n{quote}{"x" * 200_000}{quote},0\n"he said ""no""",1\n'
    found = read_csv(file(content), ",", quoting=True)
    assert [len(text) for text in found["text"]] == [3, 200_000, 12]
    assert found["label"] == ["1", "0", "1"]
    assert csv.field_size_limit() == before


def test_a_mark_that_is_never_closed_is_told_at_its_line_in_a_large_file(file):
    found = mistake(lambda: read_csv(file('a,b\n1,2\n"x,2\n' + "3,4\n" * 60_000), ",", quoting=True))
    assert (found.line, found.message) == (3, "a quotation mark is never closed")
    assert "quoting: false" in found.help


@settings(max_examples=300, deadline=None)
@given(st.text('ab",\n', max_size=24).map(lambda text: text.replace("\n", "\r\n") if "ab" in text else text))
def test_rows_with_long_fields_are_read_as_all_others(text):
    def rows(read):
        try:
            return list(read(text, ","))
        except FileMistake:
            return None

    assert rows(delimited._unlimited) == rows(delimited._quoted)


@pytest.mark.parametrize(
    ("content", "quoting", "help_"),
    [
        ('a,b\n"x,y",1\n', False, "the file needs `quoting: true`"),
        ('a,b\n"x,1\ny",0\n', True, None),
        ("a,b\nx,1,\ny,0,\n", True, "remove the delimiters at the end of the line"),
        ("a,b\nx;1\n", True, "is `delimiter` right?"),
    ],
)
def test_advice_on_a_row_of_another_length_is_tried_before_it_is_given(content, quoting, help_, file):
    if help_ is None:
        assert read_csv(file(content), ",", quoting=quoting) == {"a": ["x,1\ny"], "b": ["0"]}
    else:
        assert mistake(lambda: read_csv(file(content), ",", quoting=quoting)).help == help_
