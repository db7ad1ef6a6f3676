from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from typing import get_args

import pytest

from kdspec import events
from kdspec.events import (
    CacheState,
    CheckpointSaved,
    Evaluated,
    Event,
    Note,
    Preflight,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
    curves,
    from_json,
    to_json,
)

STEP = StepDone(
    stage="distil",
    step=3,
    epoch=0,
    loss=0.1 + 0.2,
    terms={"soft": 0.25, "hidden": 1e-300},
    weights={"soft": 1.0, "hidden": 0.5},
    lr={"student": 5e-5},
    grad_norm=None,
    seconds=0.01,
    rows=32,
    tokens=512,
    micro_losses=(0.1, 0.2),
)
EXAMPLES = [
    RunStarted("reviews", ("fine_tune", "distil"), {"torch": "2.13"}, 42, None),
    RunStarted("reviews", (), {}, 42, 100),
    StageStarted("distil", 90, 1.5, 1000, 0),
    Preflight("distil", False, 0.5, {"topics": {"splits": {"train": {"rows": 41}}, "models": {}}}),
    STEP,
    Evaluated("distil", 3, "validation", "student", {"accuracy": 0.5}, best=True),
    CheckpointSaved("distil", 3, "checkpoints/distil/step-00000003"),
    Note("warning", "the teacher's cache was damaged: nan"),
    StageFinished("distil", 90, 12.5, 60, {"accuracy": 0.75}, "student"),
    StageFinished("distil", 90, 12.5, None, {}, "student"),
    StageFinished("distil", 90, 12.5, None, {}, "student", {"topics": {"values": {"temperature": 1.5}}}),
    StageSkipped("fine_tune", "finished already"),
    RunFinished(20.0, {"student": {"accuracy": 0.75, "parameters": 10}}),
    CacheState("distil", 0, "teacher", True, "", "caches/0a", ("hidden[2]", "logits"), 41, 700, 28700, 0, 0),
    RunFailed("KD501", "term `soft` is not finite"),
]


def test_there_is_an_example_of_every_event():
    assert {type(example) for example in EXAMPLES} == set(get_args(Event))


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_survives_json(event):
    line = json.dumps(to_json(event), allow_nan=False)
    assert from_json(json.loads(line)) == event


def test_numbers_that_are_not_finite_survive_strict_json():
    event = StepDone(
        **{field.name: getattr(STEP, field.name) for field in fields(STEP)}
        | {"loss": math.nan, "terms": {"soft": math.inf}, "grad_norm": -math.inf, "micro_losses": (math.inf, 1.0)}
    )
    back = from_json(json.loads(json.dumps(to_json(event), allow_nan=False)))
    assert math.isnan(back.loss)
    assert (back.terms, back.grad_norm, back.micro_losses) == ({"soft": math.inf}, -math.inf, (math.inf, 1.0))


def test_a_text_that_reads_like_a_number_stays_a_text():
    assert from_json(to_json(Note("info", "nan"))) == Note("info", "nan")


def test_whole_numbers_are_read_as_floats_where_floats_belong():
    """Another writer of JSON may drop the `.0`."""
    back = from_json(to_json(STEP) | {"loss": 1})
    assert (back.loss, type(back.loss)) == (1.0, float)


def test_keys_of_the_log_are_ignored():
    assert from_json(to_json(STEP) | {"time": "2026-01-01T00:00:00+00:00"}) == STEP


def test_what_an_earlier_version_did_not_log_has_its_default():
    old = {
        key: value
        for key, value in to_json(Evaluated("a", 1, "test", "s", {}, best=True)).items()
        if key != "selected_by"
    }
    assert from_json(old) == Evaluated("a", 1, "test", "s", {}, best=True)
    with pytest.raises(ValueError, match="lacks 'best'"):
        from_json({key: value for key, value in old.items() if key != "best"})


def test_an_event_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        STEP.loss = 0.0


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"event": None},
        {"event": ["Note"]},
        {"event": "Event"},
        {"event": "Note", "level": "info"},
        {"event": "Note", "level": "fatal", "text": ""},
        {"event": "Note", "level": "info", "text": 3},
        to_json(STEP) | {"step": 1.0},
        to_json(STEP) | {"step": True},
        to_json(STEP) | {"loss": "low"},
        to_json(STEP) | {"loss": True},
        to_json(STEP) | {"loss": []},
        to_json(STEP) | {"terms": [1.0]},
        to_json(STEP) | {"terms": {"soft": None}},
        to_json(STEP) | {"micro_losses": 1.0},
        to_json(STEP) | {"grad_norm": {}},
    ],
)
def test_what_is_not_an_event_is_a_value_error(record):
    with pytest.raises(ValueError):
        from_json(record)


def test_events_are_torch_free():
    code = f"import sys; sys.path[:] = {sys.path!r}; import kdspec.events; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_event_is_documented():
    assert all(cls.__doc__ and not cls.__doc__.startswith(cls.__name__) for cls in get_args(events.Event))


def test_the_stage_and_the_step_of_an_event_are_those_that_it_has():
    for cls in get_args(events.Event):
        names = {field.name for field in fields(cls)}
        event = cls(**{name: {"stage": "distil", "step": 7}.get(name) for name in names})
        assert events.stage_of(event) == ("distil" if "stage" in names else "")
        assert events.step_of(event) == (7 if "step" in names else 0)


def test_the_numbers_of_an_event_have_names():
    step = StepDone("distil", 3, 1, 2.0, {"soft": 1.5}, {"soft": 0.5}, {"student": 1e-3}, None, 0.5, 8, 64, ())
    assert curves(step) == {"loss": 2.0, "terms/soft": 1.5, "weights/soft": 0.5, "lr/student": 1e-3}
    assert curves(replace(step, grad_norm=4.0))["gradient_norm"] == 4.0
    assert curves(Evaluated("distil", 3, "validation", "student", {"accuracy": 0.5}, best=True)) == {
        "validation/accuracy": 0.5
    }
    assert curves(Note("info", "text")) == {}
