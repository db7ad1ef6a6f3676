"""The complete spec as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.planning import resolved
from kdspec.source.document import Located, parse


@pytest.mark.parametrize(
    "value",
    [
        "1e-4",
        "010",
        "0x1F",
        "on",
        "no",
        "1:12",
        "2024-01-01",
        "null",
        "~",
        "",
        "a: b",
        "9" * 30,
        "plain",
        "ünï",
        "a\nb",
    ],
)
def test_text_stays_text(value):
    assert parse(resolved.as_yaml({"key": value}), "spec").data == {"key": value}


@pytest.mark.parametrize("value", [1, 0.5, 1e-4, 1e-12, True, None, [1, [2]], {"a": {"b": []}}])
def test_other_values_are_unchanged(value):
    assert parse(resolved.as_yaml({"key": value}), "spec").data == {"key": value}


def test_text_of_an_extended_file_is_text():
    text = resolved.as_yaml({"key": Located("value", Path("elsewhere"))})
    assert text == "key: value\n"


def test_what_occurs_twice_is_written_twice():
    shared = [1, 2]
    assert resolved.as_yaml({"a": shared, "b": shared}) == "a:\n- 1\n- 2\nb:\n- 1\n- 2\n"
