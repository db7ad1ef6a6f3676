"""Stages that are alike are rehearsed once, and the result is as if each had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.rehearsal.alike import Alike
from kdspec.rehearsal.stage_rehearsal import StageRehearsal

NETS = Path(__file__).parent / "nets.py"
SPEC = """\
kdspec: 1
name: small
tasks:
  rows:
    tensors: {data: {json: {train: rows.jsonl}}, columns: [ids, mask], labels: label}
  others:
    tensors: {data: {json: {train: rows.jsonl}}, columns: [ids, mask], labels: label}
models:
  teacher: {net: {width: 6}}
  second: {net: {width: 6}}
  student: {net: {}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  second: {logits: output.logits, hidden: output.hidden}
  student: {logits: output.logits, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
stages:
"""
MATCH = "{feature: hidden, loss: hidden_mse, layers: {2: 2}}"


def stage(name, *, match=MATCH, training="batch_size: 3", teacher="teacher", task="rows", soft=""):
    return f"""\
  {name}:
    distiller:
      general:
        task: {task}
        teacher: {teacher}
        student: student{soft}
        matches:
          - {match}
    training: {{steps: {1 + len(name)}, {training}}}
"""


def chain(*stages):
    return SPEC + "".join(stages)


WRONG = "{feature: hidden, loss: hidden_mse, layers: {2: 2}, projection: none}"
SPECS = {
    "alike": chain(stage("one"), stage("two"), stage("three"), stage("four")),
    "a shape that does not fit": chain(stage("one", match=WRONG), stage("fine"), stage("two", match=WRONG)),
    "a component in the place of its pair": chain(
        stage("one", match="{feature: hidden, loss: gram, layers: {2: 2}}"),
        stage("two", match="{feature: hidden, loss: gram, layers: {2: 1}}"),
        stage("three", match="{feature: hidden, loss: gram, layers: {2: 2}}"),
    ),
    "settings": chain(
        stage("one"), stage("two", training="batch_size: 5"), stage("three", training="optimizer: sgd"),
        stage("four", training="batch_size: 5, log_every: 3"), stage("five", training="precision: bf16"), stage("six"),
    ),
    "others between": chain(
        stage("one"), stage("two", teacher="second"), stage("three"), stage("four", teacher="second"),
        stage("five", task="others"), stage("six", task="others"),
    ),
    "that need contents": chain(stage("one"), stage("two"), stage("three")).replace(
        "student: {net: {}}", "student: {net: {trait: looks}}", 1
    ),
    "names that are in texts": chain(stage("teacher", match=WRONG), stage("hidden", match=WRONG), stage("student")),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_the_result_is_as_if_each_were_rehearsed(name, rehearsed, monkeypatch):
    once = rehearsed(SPECS[name], NETS)
    monkeypatch.setattr(Alike, "find", lambda *_: None)
    each = rehearsed(SPECS[name], NETS)
    assert once.found == each.found
    assert [once.pointed(found) for found in once.found.findings] == [
        each.pointed(found) for found in each.found.findings
    ]


@pytest.mark.parametrize(
    ("name", "times"),
    [("alike", 1), ("a shape that does not fit", 2), ("settings", 4), ("others between", 3), ("that need contents", 2)],
)
def test_stages_that_are_alike_are_rehearsed_once(name, times, rehearsed, monkeypatch):
    runs = []
    run = StageRehearsal.run
    monkeypatch.setattr(
        StageRehearsal, "run", lambda self, *, contents: runs.append(self.stage.name) or run(self, contents=contents)
    )
    rehearsed(SPECS[name], NETS)
    assert len(runs) == times


def test_a_mistake_of_alike_stages_is_shown_at_each(rehearsed):
    outcome = rehearsed(SPECS["a shape that does not fit"], NETS)
    assert [found.at[1] for found in outcome.found.findings] == ["one", "two"]
    assert len({found.code for found in outcome.found.findings}) == 1
