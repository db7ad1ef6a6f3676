"""A plan as text."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import pytest
from rich.console import Console

from kdspec.render.plan import joined, page, plain, setting

WRITTEN = {"value": 1, "origin": "written"}
DEFAULT = {"value": 2, "origin": "default"}
UNKNOWN = {"value": None, "origin": "unknown"}


def component(origin="written", **parameters):
    return {"component": "adamw", "origin": origin, "parameters": parameters}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (WRITTEN, "1"),
        (DEFAULT, "~2"),
        ({"value": 3, "origin": "derived"}, "=3"),
        (UNKNOWN, "?"),
        (component(), "adamw"),
        (component(lr=WRITTEN, eps=DEFAULT), "adamw(lr=1, ~eps=2)"),
        (component("default", eps=DEFAULT), "~adamw(eps=2)"),
        (component("derived", eps=DEFAULT), "=adamw(eps=2)"),
        (component(inner=component("default", eps=DEFAULT)), "adamw(~inner=adamw(eps=2))"),
        (component(group={"parameters": {"a": WRITTEN}, "origin": "written"}), "adamw(group(a=1))"),
        (component(metric=UNKNOWN), "adamw(?metric)"),
        (component(metric={"value": "f1", "origin": "unknown"}), "adamw(?metric=f1)"),
    ],
)
def test_a_setting_has_its_mark(value, text):
    assert setting(value).plain == text


TURN_NOTHING_ON = (None, False, [], {}, 0.0, 0)


def test_a_default_that_turns_nothing_on_is_left_out():
    settings = {
        name: {"value": value, "origin": "default"} for name, value in zip("abcdef", TURN_NOTHING_ON, strict=True)
    }
    assert joined(settings).plain == "~e=0, ~f=0"
    assert joined({"a": {"value": None, "origin": "written"}}).plain == "a=null"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (5e-05, "5e-05"),
        (True, "true"),
        ("plain text", "plain text"),
        (",", '","'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ([1, "a"], "[1, a]"),
        ({"6": 2}, "{6: 2}"),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("line\nbreak", '"line\\nbreak"'),
    ],
)
def test_a_value_is_one_line_and_moves_no_cursor(value, text):
    assert plain(value) == text


def test_a_page_shows_models_terms_and_training():
    outline = {
        "format": 1,
        "name": "tiny",
        "seed": {"value": 0, "origin": "default"},
        "tasks": [{"name": "reviews", "task": component()}],
        "models": [
            {
                "name": "teacher",
                "model": component(path={"value": "there", "origin": "written"}),
                "facts": {"layers": 6, "width": None, "heads": 4, "family": None},
                "stages": {},
            }
        ],
        "stages": [
            {
                "name": "distil",
                "distiller": {"component": "general", "origin": "written"},
                "student": "student",
                "teachers": ["teacher", "other"],
                "tasks": ["reviews"],
                "settings": {"tau": WRITTEN},
                "terms": [
                    {"name": "soft", "kind": "soft_labels", "active": True, "settings": {"loss": component()}},
                    {"name": "off", "kind": "hard_labels", "active": False, "settings": {"weight": WRITTEN}},
                    {
                        "name": "hidden.mmd.6-2",
                        "kind": "match",
                        "active": True,
                        "feature": "hidden",
                        "teacher": {"model": "other", "layers": [6], "width": 8},
                        "student": {"model": "student", "layers": [2], "width": 4},
                        "layers": {"origin": "derived"},
                        "settings": {
                            "loss": component(),
                            "weight": WRITTEN,
                            "projection": {"component": "linear", "parameters": {}, "origin": "derived"},
                        },
                    },
                ],
                "reads": {"teacher": {"hidden": {"paths": ["output.hidden_states"], "layers": [6]}}},
                "training": {"epochs": WRITTEN, "batch_size": DEFAULT, "evaluate": UNKNOWN},
            }
        ],
    }
    console = Console(width=100)
    with console.capture() as captured:
        console.print(page(outline))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert lines == [
        "tiny   seed ~0",
        "",
        "models",
        "  teacher   6 × ?, 4 heads   not used",
        "            adamw(path=there)",
        "",
        "tasks",
        "  reviews   adamw",
        "",
        "stage 1  distil  general: teacher, other → student  (reviews)",
        "  term             loss    teacher → student     weight   settings",
        "  soft             adamw                         1",
        "  off              off                           1",
        "  hidden.mmd.6-2   adamw   other =hidden 6 → 2   1        =linear 4 → 8",
        "",
        "  settings           tau=1",
        "  reads of teacher   hidden[6]",
        "  training           epochs=1, ?evaluate",
        "  by default         ~batch_size=2",
        "",
        "as written   ~ default   = derived   ? known when it runs",
    ]
