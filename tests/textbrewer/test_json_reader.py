"""JSON is read as `json` reads it, and what is wrong is told with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.source.nodes import ListNode, MappingNode, Source
from kdspec.textbrewer.json_reader import read

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def plain(node):
    match node:
        case ListNode():
            return [plain(item) for item in node.items]
        case MappingNode():
            return {key: plain(value) for key, (_, value) in node.items.items()}
    return node.value


@settings(max_examples=40, deadline=None)
@given(VALUES, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_what_json_writes_is_read_back(value, indent, ascii_):
    assert plain(read(Source("a.json", json.dumps(value, indent=indent, ensure_ascii=ascii_)))) == value


def test_spans_cover_what_is_written():
    text = '{\n\t"é": [1.5, "x"],\n\t"b": {}\n}\n'
    root = read(Source("a.json", text))
    span, value = root.items["é"]
    assert (span.line, span.column, span.end_column) == (1, 1, 4)
    assert (value.span.column, value.span.end_column) == (6, 16)
    assert (value.items[1].span.column, value.items[1].span.end_column) == (12, 15)
    assert (root.span.line, root.span.end_line) == (0, 3)


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "told"),
    [
        ("", "KD601", 1, 1, "ends before"),
        ('{"a": 1', "KD601", 1, 7, "`,` or `}` is missing"),
        ('{"a": 1,}', "KD601", 1, 9, "a comma"),
        ("[1,\n 2,\n]", "KD601", 3, 1, "a comma"),
        ("{a: 1}", "KD601", 1, 2, "a key in double quotes"),
        ("{'a': 1}", "KD601", 1, 2, "a key in double quotes"),
        ('{"a" 1}', "KD601", 1, 6, "`:` is missing"),
        ('{"a": }', "KD601", 1, 7, "a value is missing"),
        ('{"a": True}', "KD601", 1, 7, "`True` is not a value"),
        ('{"a": NaN}', "KD601", 1, 7, "`NaN` is not a value"),
        ('{"a": 01}', "KD601", 1, 7, "`01` is not a value"),
        ('{"a": "b}', "KD601", 1, 7, "unterminated"),
        ('{"a": "\\x"}', "KD601", 1, 8, "escape"),
        ('{"a": 1} 2', "KD601", 1, 10, "unexpected text after"),
        ('{"a": 1,\n "a": 2}', "KD002", 2, 2, "duplicate key `a`"),
        ("[" * 100, "KD004", 1, 66, "levels deep"),
        ("1" * 30, "KD004", 1, 1, "too large"),
    ],
)
def test_errors_are_reported_with_line_and_column(text, code, line, column, told):
    with pytest.raises(DiagnosticError) as caught:
        read(Source("a.json", text))
    (found,) = caught.value.diagnostics
    assert (found.code, found.primary.span.line + 1, found.primary.span.column + 1) == (code, line, column)
    assert told in found.message.lower() + (found.message)
    assert caught.value.texts == {"a.json": text}
