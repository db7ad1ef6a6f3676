"""Edits in a text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdspec.cli.apply_fixes import apply
from kdspec.diagnostics.diagnostic import Edit, Span


def edit(start, end, text, line=0):
    return Edit(Span("a", line, start, line, end), text)


def test_edits_are_applied_whatever_their_order():
    assert apply("one two three", [edit(8, 13, "3"), edit(0, 3, "1")]) == ("1 two 3", 2)


def test_of_edits_that_overlap_none_is_applied():
    assert apply("one two three", [edit(0, 5, "1"), edit(4, 7, "2"), edit(8, 13, "3")]) == ("one two 3", 1)


def test_two_edits_of_the_same_place_are_both_left_out():
    assert apply("one", [edit(0, 3, "1"), edit(0, 3, "uno")]) == ("one", 0)


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=6), min_size=1)
)
def test_only_the_edited_line_changes(lines):
    for line, content in enumerate(lines):
        wanted = [*lines[:line], "new", *lines[line + 1 :]]
        for end in ("\n", "\r\n"):
            text = end.join([*lines, ""])
            assert apply(text, [edit(0, len(content), "new", line)])[0] == end.join([*wanted, ""])
