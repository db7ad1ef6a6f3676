"""`kdspec doctor`, and the hints of `kdspec plan` that its measurement brings."""

from __future__ import annotations

import json

import pytest

from kdspec.engine.machine import processor_speed
from kdspec.engine.machine.processor_speed import ProcessorSpeed


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A cache folder of its own, and a processor that multiplies bf16 five times as fast."""
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    speed = ProcessorSpeed(*processor_speed._key(), fp32=2e10, bf16=1e11)
    monkeypatch.setattr(processor_speed, "measure", lambda: speed)


def test_it_shows_the_machine_and_what_to_change(kdspec, measured):
    outcome = kdspec("doctor")
    assert outcome.code == 0
    assert "fp32 20.0 GFLOP/s, bf16 100 GFLOP/s: 5 times" in outcome.out
    assert "offline: HF_HUB_OFFLINE is set" in outcome.out
    assert "note: this processor multiplies bf16 5 times as fast as fp32\n" in outcome.out


def test_json_has_the_facts_and_findings(kdspec, measured):
    found = json.loads(kdspec("doctor", "--json").out)
    assert found["speed"]["fp32"] == 2e10
    assert found["versions"]["kdspec"]
    assert {"level", "text", "help"} == set(found["findings"][-1])


def test_a_plugin_that_does_not_load_is_an_error_in_the_list(kdspec, measured, tmp_path):
    (tmp_path / "odd.py").write_text("import nothing_of_this_name\n")
    outcome = kdspec("doctor", "--plugin", str(tmp_path / "odd.py"))
    assert outcome.code == 0
    assert "odd.py` failed to load: ModuleNotFoundError" in outcome.out


@pytest.mark.slow
def test_the_plan_has_hints_only_with_a_measurement(kdspec, measured, spec):
    spec()
    without = kdspec("plan", "spec.yaml")
    assert (without.code, "times as fast" in without.out) == (0, False)
    assert all(
        "hints" not in stage
        for stage in json.loads(kdspec("plan", "spec.yaml", "--json").out)["rehearsal"]["stages"].values()
    )
    assert kdspec("doctor").code == 0
    shown = " ".join(kdspec("plan", "spec.yaml").out.split())
    assert "this processor multiplies bf16 5 times as fast as fp32: `teacher_precision: bf16`" in shown
    stages = json.loads(kdspec("plan", "spec.yaml", "--json").out)["rehearsal"]["stages"]
    assert any("teacher_precision" in hint for stage in stages.values() for hint in stage.get("hints", ()))
