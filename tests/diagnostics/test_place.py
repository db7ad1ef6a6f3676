"""Findings get their lines and columns."""

from __future__ import annotations

import pytest

from kdspec.diagnostics.finding import Finding, Mark
from kdspec.diagnostics.place import in_order, place
from kdspec.source.document import parse

TEXT = """\
name: small
stages:
  first: {lanes: 2, path: "output.logit"}
  second:
    lanes: 3
"""


@pytest.fixture
def placed():
    """The one diagnostic of a finding about the text."""
    document = parse(TEXT, "s.yaml")

    def one(*arguments, **options):
        (found,) = place([Finding("KD305", "something", *arguments, **options)], document)
        return found

    return one


def quoted(label):
    span = label.span
    return TEXT.splitlines()[span.line][span.column : span.end_column if span.line == span.end_line else None]


@pytest.mark.parametrize(
    ("at", "key", "expected"),
    [
        (("name",), False, "small"),
        (("name",), True, "name"),
        (("stages", "first", "lanes"), False, "2"),
        (("stages", "first", "epochs"), False, "first"),
        (("stages", "second", "epochs", "more"), False, "second"),
        (("stages", "second"), False, "lanes: 3"),
        (("name", "below", "a", "short", "form"), False, "small"),
    ],
)
def test_a_path_that_is_not_written_points_at_the_nearest_outer_one(at, key, expected, placed):
    assert quoted(placed(at, key=key).primary) == expected


def test_other_places_come_along_unless_they_are_the_same(placed):
    found = placed(("name",), "here", also=(Mark(("name",), "again"), Mark(("stages", "first"), "there", key=True)))
    assert [(label.text, quoted(label)) for label in found.secondary] == [("there", "first")]


def test_a_fix_replaces_only_what_is_written(placed):
    assert placed(("name",), fix=("small", "large")).edit.text == "large"
    assert placed(("name",), fix=("other", "large")).edit is None
    assert placed(("name",), fix=("small", "a: b")).edit.text == '"a: b"'


def test_a_part_of_a_text_is_pointed_at(placed):
    found = placed(("stages", "first", "path"), "not there", part=(7, 12))
    assert (quoted(found.primary), found.primary.text) == ("logit", "not there")


def test_a_part_of_what_is_not_written_is_the_whole_without_its_words(placed):
    found = placed(("stages", "first", "other"), "not there", part=(7, 12))
    assert (quoted(found.primary), found.primary.text) == ("first", "")


def test_without_a_text_there_are_no_places():
    (found,) = place([Finding("KD305", "something", ("name",), fix=("small", "large"))], None)
    assert (found.primary, found.secondary, found.edit) == (None, (), None)


def test_diagnostics_come_in_the_order_of_the_text_each_once():
    document = parse(TEXT, "s.yaml")
    paths = [None, ("stages", "second"), ("name",), ("name",)]
    found = in_order(place([Finding("KD305", "something", path, key=True) for path in paths], document))
    assert [d.primary and d.primary.span.line for d in found] == [0, 3, None]
