"""Which settings differ, by path."""

from __future__ import annotations

import pytest

from kdspec.report.comparison.setting_table import ABSENT, dotted, setting_rows


@pytest.mark.parametrize(
    ("one", "other", "rows"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, [("a", (1, True))]),
        ({"seed": 1, "name": "x", "b": {"seed": 1}}, {"seed": 2, "name": "y", "b": {"seed": 2}}, [("b.seed", (1, 2))]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, [("a.c", (2, ABSENT))]),
        ({"a": {"ce": {"x": 1}}}, {"a": "kl"}, [("a", ({"ce": {"x": 1}}, "kl"))]),
        ({"m": [{"w": 1}, {"w": 2}]}, {"m": [{"w": 1}, {"w": 3}]}, [("m[1].w", (2, 3))]),
        ({"m": [{"w": 1}]}, {"m": []}, [("m", ([{"w": 1}], []))]),
        ({"m": [1, 2]}, {"m": [1, 3]}, [("m", ([1, 2], [1, 3]))]),
    ],
)
def test_only_what_differs_is_a_row(one, other, rows):
    assert [(row.path, row.values) for row in setting_rows([one, other])] == rows


def test_values_are_shown_as_a_spec_has_them():
    (row,) = setting_rows([{"a": None}, {"a": [True, 1e-05, {"k": "x"}]}, {}])
    assert row.texts == ("null", "[true, 1e-05, {k: x}]", "not set")


def test_a_path_is_one_that_set_takes():
    assert dotted(("stages", "s", "matches", 0, "weight")) == "stages.s.matches[0].weight"
