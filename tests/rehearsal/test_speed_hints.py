"""Hints on speed: only where the measurement and the cost of a stage are for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdspec.engine.machine.processor_speed import ProcessorSpeed
from kdspec.rehearsal.result import Flops, Rehearsal, RehearsedStage
from kdspec.rehearsal.speed_hints import speed_hints
from kdspec.testing import plan, registry, tiny

SPEC = """\
kdspec: 1
name: hints
tasks:
  rows:
    sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 1, batch_size: 2}
"""
COST = Flops(teachers={"teacher": 60}, forward=12, losses=1, backward=27)


@pytest.fixture
def hints(tmp_path, monkeypatch):
    """The hints for a speed of bf16 in times of fp32, training settings and a cost."""
    monkeypatch.chdir(tmp_path)
    tiny("teacher")
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")

    def make(gain, cost=COST, tasks=None, **training):
        sets = [f"stages.distil.training.{name}={value}" for name, value in training.items()]
        stage = RehearsedStage(name="distil", rows=2, flops=cost, tasks=tasks or {})
        speed = ProcessorSpeed("X1", "2", 1, fp32=1e10, bf16=gain * 1e10)
        return speed_hints(plan(SPEC, registry(), sets=sets), Rehearsal(stages=(stage,)), speed).get("distil", ())

    return make


def test_a_fast_bf16_makes_the_share_of_the_teachers_smaller(hints):
    # (60 + 40) / (60 / 5 + 40) = 1.92
    (hint,) = hints(5)
    assert hint.startswith(
        "this processor multiplies bf16 5 times as fast as fp32: `teacher_precision: bf16` would make "
    )
    assert hint.endswith("the first epoch up to 1.9 times as fast")


def test_nothing_is_proposed_where_it_would_not_help(hints):
    assert hints(1) == ()
    assert hints(5, cost=None) == ()
    assert hints(5, cost=replace(COST, teachers={"teacher": 2})) == ()
    assert hints(5, teacher_precision="bf16") == hints(5, teacher_precision="fp32") == hints(5, precision="bf16") == ()


def test_a_slow_bf16_is_a_hint_for_a_spec_that_uses_it(hints):
    assert hints(0.1) == ()
    assert hints(0.1, precision="bf16") == (
        "this processor multiplies bf16 only 0.1 times as fast as fp32: `precision: fp32` would be faster",
    )
    (hint,) = hints(0.1, teacher_precision="bf16")
    assert hint.endswith("`teacher_precision: fp32` would be faster")


def test_the_cost_of_several_tasks_counts_together(hints):
    part = RehearsedStage(name="rows", rows=2, flops=COST)
    assert hints(5, cost=None, tasks={"a": part, "b": part}) == hints(5)
