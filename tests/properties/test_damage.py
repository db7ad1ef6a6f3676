"""A flipped bit, a truncated or a missing file, anywhere in what a run keeps: always noticed, and the weights are right.

The short form runs with every test; the long one, 60 times, with `-m slow`.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import CacheState, Note, RunStarted

SHORT, LONG = 10, 60
TRAINING = "stages.distil.training"


@dataclass(frozen=True)
class Stopped:
    """A run that was stopped after its fourth step, its cache, and the weights that it should end in."""

    home: Path
    session: Any
    weights: dict[str, torch.Tensor]

    def afresh(self):
        """The same once more, to be damaged: its run and its cache."""
        for part in ("runs", "caches"):
            shutil.rmtree(self.home / part, ignore_errors=True)
            shutil.copytree(self.home / "kept" / part, self.home / part)
        return self.home / "runs" / "toy", next((self.home / "caches").iterdir())

    def goes_on(self):
        """Run to the end; its events since then, and whether the weights are right to the bit."""
        result = self.session().run()
        events = [record.event for record in read(result.folder / "events.jsonl")]
        begun = max(number for number, event in enumerate(events) if isinstance(event, RunStarted))
        found = load_file(result.student / "model.safetensors")
        assert found.keys() == self.weights.keys()
        return events[begun:], all(torch.equal(found[name], self.weights[name]) for name in found)


@pytest.fixture
def stopped(session, toys, tmp_path):
    changes = (
        "models.student.toy.dropout=0.2",
        f"{TRAINING}.checkpoint={{every_steps: 1, keep: 3}}",
        f"{TRAINING}.teacher_cache={{use: on, folder: caches}}",
    )
    whole = session(*changes, folder="whole").run()
    shutil.rmtree(tmp_path / "caches")
    with pytest.raises(Interrupted):
        session(*changes, plugins=[toys.StopAt(4)]).run()
    for part in ("runs", "caches"):
        shutil.copytree(tmp_path / part, tmp_path / "kept" / part)
    made = session(*changes)
    weights = load_file(whole.student / "model.safetensors")
    return Stopped(tmp_path, lambda: Session(made.plan, made.registry, output=made.output, device="cpu"), weights)


def damage(path, dice):
    """What was done to a file: it is another one now."""
    data = bytearray(path.read_bytes())
    how = dice.choice(("flip", "flip", "truncate", "remove"))
    if how == "flip":
        at = dice.randrange(8 * len(data))
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
    elif how == "truncate":
        path.write_bytes(data[: dice.randrange(len(data))])
    else:
        path.unlink()
    return how


def of_the_checkpoint(stopped, dice):
    """The newest one: it is reported and kept, and the one before it used."""
    folder, _ = stopped.afresh()
    newest = folder / "checkpoints" / "distil" / "step-00000004"
    path = dice.choice(sorted(newest.iterdir()))
    how = damage(path, dice)
    events, right = stopped.goes_on()
    told = [event.text for event in events if isinstance(event, Note) and event.level == "warning"]
    noticed = len(told) == 1 and "step-00000004` is damaged" in told[0] and "it is kept as" in told[0]
    kept = (newest.parent / "step-00000004.corrupt-1").is_dir()
    return f"{how} {path.name}", noticed and kept and events[0].resumed_at == 3 and right


def of_the_cache(stopped, dice):
    """The teacher is asked again, and the cache used."""
    _, cache = stopped.afresh()
    (segments,) = cache.glob("*.samples")
    path = dice.choice((segments, segments, cache / "index"))
    how = damage(path, dice)
    events, right = stopped.goes_on()
    last = [event for event in events if isinstance(event, CacheState)][-1]
    return f"{how} {path.name}", bool(last.computed) and last.used and right


TWO_STAGES = """\
kdspec: 1
name: two
tasks: {rows: {tensors: {data: {ragged: {train: 8, validation: 4}}, labels: label}}}
models: {teacher: {toy: {width: 6}}, student: {toy: {dropout: 0.2}}}
adaptors:
  teacher: {logits: output.logits, labels: batch.label}
  student: {logits: output.logits, labels: batch.label}
stages:
  fine_tune: {distiller: {supervised: {model: teacher}}, training: {steps: 3, batch_size: 3, log_every: 1}}
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 4, batch_size: 3, log_every: 1, checkpoint: {every_steps: 1}}
"""


@pytest.mark.parametrize("how", ["flip", "remove"])
def test_damage_of_what_a_stage_has_left_is_noticed_before_the_next_one_reads_it(how, session, toys, launch, same):
    whole = launch(text=TWO_STAGES, folder="whole")
    with pytest.raises(Interrupted):
        session(text=TWO_STAGES, plugins=[toys.StopAt(2)]).run()
    made = session(text=TWO_STAGES)
    weights = made.folder / "models" / "teacher" / "model.safetensors"
    if how == "flip":
        data = bytearray(weights.read_bytes())
        data[-3] ^= 4
        weights.write_bytes(data)
    else:
        weights.unlink()
    with pytest.raises(FindingError) as caught:
        made.run()
    (found,) = caught.value.findings
    assert found.code == "KD504"
    assert found.message.startswith("the model of stage `fine_tune` is damaged: ")
    assert str(weights) in found.message
    record = made.folder / "stages" / "fine_tune.json"
    assert str(record) in found.help
    record.unlink()
    assert same.bits(launch(text=TWO_STAGES).weights, whole.weights)


@pytest.mark.parametrize("times", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_damage_is_noticed_and_the_weights_are_right(times, stopped):
    dice = random.Random(times)
    wrong = []
    for number in range(times):
        what, well = dice.choice((of_the_checkpoint, of_the_checkpoint, of_the_cache))(stopped, dice)
        if not well:
            wrong.append(f"{number}: {what}")
    assert not wrong
