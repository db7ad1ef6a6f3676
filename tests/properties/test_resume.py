"""A run that was stopped or killed at any moment ends as one that was not: the same weights, the same events."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.best_model import BestModelTracker
from kdspec.engine.export import model_folder
from kdspec.engine.run.event_log import read
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import CheckpointSaved, Evaluated, RunFailed, RunFinished, RunStarted, StageFinished, StepDone

TRAINING = "stages.distil.training"
DROPOUT = "models.student.toy.dropout=0.2"
DATA = "tasks.rows.tensors.data.ragged={train: 11, validation: 5, gaps: 4}"
EVALUATED = (DATA, f"{TRAINING}.evaluate={{every_steps: 2, metric: accuracy}}")
BY_LOSS = f"{TRAINING}.evaluate={{every_steps: 2, metric: loss}}"
FINE_TUNED = "stages.fine_tune={distiller: {supervised: {model: student}}, training: {epochs: 1, batch_size: 4}}"

TWO_STAGES = """\
kdspec: 1
name: two
tasks: {rows: {tensors: {data: {ragged: {train: 8, validation: 4}}, labels: label}}}
models: {teacher: {toy: {width: 6, dropout: 0.1}}, student: {toy: {dropout: 0.2}}}
adaptors:
  teacher: {logits: output.logits, labels: batch.label}
  student: {logits: output.logits, labels: batch.label}
stages:
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {steps: 3, batch_size: 3, log_every: 1}
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 4, batch_size: 3, log_every: 1, checkpoint: {every_steps: 2}}
"""


def story(events):
    """The events that tell of training, without times; the starts of the run may differ."""
    kinds = (StepDone, Evaluated, CheckpointSaved, StageFinished)
    told = [replace(event, seconds=0.0) if hasattr(event, "seconds") else event for event in events]
    return [event for event in told if isinstance(event, kinds)]


def interrupt(session, toys, *sets, step, stage="distil", **options):
    stop = toys.StopAt(step, stage)
    with pytest.raises(Interrupted) as caught:
        session(*sets, plugins=[stop], **options).run()
    assert caught.value.signal == signal.SIGINT


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_run_stopped_after_any_step_resumes_from_there(step, launch, session, toys, same):
    whole = launch(DROPOUT, *EVALUATED, folder="whole")
    interrupt(session, toys, DROPOUT, *EVALUATED, step=step)
    ran = launch(DROPOUT, *EVALUATED)
    assert same.bits(whole.weights, ran.weights)
    assert same.bits(whole.checkpoint(6), ran.checkpoint(6))
    assert same.bits(whole.checkpoint(6, group="optimizer"), ran.checkpoint(6, group="optimizer"))
    assert [start.resumed_at for start in ran.of(RunStarted)] == [None, step]
    extra = CheckpointSaved("distil", step, f"checkpoints/distil/step-{step:08d}")
    assert [e for e in story(ran.events) if e != extra] == [e for e in story(whole.events) if e != extra]
    assert extra in ran.events


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_resumes_too(precision, launch, session, toys, same):
    """The loss scale of fp16 and its history are part of the state."""
    changes = (f"{TRAINING}.precision={precision}", "models.student.toy={single: true, dropout: 0.1}", *(
        "models.teacher.toy={single: true}", "stages.distil.distiller.general.matches=[]"
    ))  # fmt: skip
    whole = launch(*changes, folder="whole")
    interrupt(session, toys, *changes, step=3)
    ran = launch(*changes)
    assert same.bits(whole.weights, ran.weights)
    assert all(step.grad_norm is not None for step in ran.of(StepDone))


def test_the_best_student_survives(launch, session, toys, same):
    """A learning rate that is too high: the first evaluation stays the best."""
    changes = (DATA, BY_LOSS, f"{TRAINING}.optimizer={{sgd: {{lr: 3}}}}")
    changes = (*changes, f"{TRAINING}.checkpoint={{keep: 1}}", f"{TRAINING}.epochs=3")
    whole = launch(*changes, folder="whole")
    best = whole.of(StageFinished)[0].best_step
    assert best < 8
    interrupt(session, toys, *changes, step=7)
    ran = launch(*changes)
    assert ran.of(StageFinished)[0].best_step == best
    assert same.bits(whole.weights, ran.weights)
    student = {name.removeprefix("student."): t for name, t in ran.checkpoint(best).items() if "student." in name}
    assert same.bits(ran.weights, student)


def test_patience_survives(launch, session, toys, same):
    changes = (DATA, f"{TRAINING}.evaluate={{every_steps: 1}}", f"{TRAINING}.early_stopping={{patience: 3}}")
    changes = (*changes, f"{TRAINING}.optimizer={{sgd: {{lr: 20}}}}")
    changes = (*changes, f"{TRAINING}.epochs=9")
    whole = launch(*changes, folder="whole")
    end = whole.of(StageFinished)[0]
    assert end.step == end.best_step + 3 < 27
    assert any("stopped early" in note for note in whole.notes)
    interrupt(session, toys, *changes, step=end.best_step + 2)
    ran = launch(*changes)
    assert story(ran.of(StageFinished)) == story(whole.of(StageFinished))
    assert same.bits(whole.weights, ran.weights)


@pytest.mark.parametrize(
    ("call", "sets"),
    [
        (3, EVALUATED),
        (
            4,
            (*EVALUATED, f"{TRAINING}.checkpoint={{every_steps: 6, keep: 1}}"),
        ),  # at steps without a checkpoint of their own
        (2, (DATA, f"{TRAINING}.evaluate={{every_steps: 1}}", f"{TRAINING}.early_stopping={{patience: 1}}")),
        (
            7,
            (DATA, BY_LOSS, f"{TRAINING}.optimizer={{sgd: {{lr: 3}}}}", f"{TRAINING}.epochs=4"),
        ),  # an earlier one is the best
    ],
)
def test_a_run_that_ends_in_an_evaluation_loses_the_evaluation_alone(call, sets, launch, session, same, monkeypatch):
    """The first evaluation may be a try of the metric's name before training, so the calls are counted to the last."""
    whole = launch(DROPOUT, *sets, folder="whole")
    evaluations = [event.step for event in whole.of(Evaluated)]
    before, calls = BestModelTracker.__call__, iter(range(1, 1000))

    def killed(self, progress):
        if next(calls) == min(call, len(evaluations)):
            raise Killed
        return before(self, progress)

    monkeypatch.setattr(BestModelTracker, "__call__", killed)
    made = session(DROPOUT, *sets)
    with pytest.raises(Killed):
        made.run()
    monkeypatch.undo()
    step = evaluations[min(call, len(evaluations)) - 1]
    ran = launch(DROPOUT, *sets)
    assert ran.of(RunStarted)[-1].resumed_at == step
    assert story(ran.events) == story(whole.events)
    assert same.bits(ran.weights, whole.weights)
    assert ran.of(StageFinished)[0].best_step == whole.of(StageFinished)[0].best_step


class Killed(BaseException):
    """As a kill: nothing catches it."""


def test_an_evaluation_that_was_logged_but_not_saved_is_logged_once(launch, session, same, monkeypatch):
    """It is done again from the checkpoint before it."""
    whole = launch(DROPOUT, *EVALUATED, folder="whole")
    before = TrainingLoop._step

    def killed(self, step, *, first):
        if step == 4:
            raise Killed
        return before(self, step, first=first)

    monkeypatch.setattr(TrainingLoop, "_step", killed)
    made = session(DROPOUT, *EVALUATED)
    with pytest.raises(Killed):
        made.run()
    monkeypatch.undo()
    assert [r.event.step for r in read(made.folder / "events.jsonl") if isinstance(r.event, Evaluated)] == [2, 4]
    ran = launch(DROPOUT, *EVALUATED)
    assert story(ran.events) == story(whole.events)
    assert same.bits(ran.weights, whole.weights)


@pytest.mark.parametrize(("stage", "step"), [("fine_tune", 2), ("fine_tune", 3), ("distil", 1), ("distil", 3)])
def test_of_several_stages_the_finished_ones_are_not_run_again(stage, step, launch, session, toys, same):
    whole = launch(text=TWO_STAGES, folder="whole")
    interrupt(session, toys, text=TWO_STAGES, stage=stage, step=step)
    ran = launch(text=TWO_STAGES)
    assert same.bits(whole.weights, ran.weights)
    assert [e.step for e in ran.of(StepDone)] == [1, 2, 3, 1, 2, 3, 4]
    assert [e.stage for e in ran.of(StageFinished)] == ["fine_tune", "distil"]
    assert [stage.stage for stage in ran.result.stages] == (
        ["fine_tune", "distil"] if stage == "fine_tune" else ["distil"]
    )


def test_a_finished_run_is_not_run_again(launch):
    first = launch()
    before = {
        path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file() and path.name != ".lock"
    }
    again = launch()
    assert again.result.already_finished
    assert again.result.table == first.result.table
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("lost", ["table.json", "student", "RunFinished"])
def test_only_the_end_is_done_again_where_it_was_lost(lost, launch, same):
    whole = launch()
    weights, steps = whole.weights, len(whole.of(StepDone))
    if lost == "RunFinished":
        lines = (whole.folder / "events.jsonl").read_text().splitlines(keepends=True)
        (whole.folder / "events.jsonl").write_text("".join(line for line in lines if "RunFinished" not in line))
    elif (whole.folder / lost).is_dir():
        shutil.rmtree(whole.folder / lost)
    else:
        (whole.folder / lost).unlink()
    again = launch()
    assert not again.result.already_finished
    assert again.result.stages == ()
    assert len(again.of(StepDone)) == steps
    assert same.bits(again.weights, weights)
    assert launch().result.already_finished


@pytest.mark.parametrize("word", ['"CheckpointSaved"', '"StageFinished"'])
def test_the_log_matches_the_disk_after_a_kill_in_between(word, launch, session, toys):
    whole = launch(text=TWO_STAGES, folder="whole")
    interrupt(session, toys, text=TWO_STAGES, step=1)
    log = next(whole.folder.parent.parent.joinpath("runs").rglob("events.jsonl"))
    lines = log.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if word in line)
    log.write_text("".join(lines[:last] + lines[last + 1 :]))
    ran = launch(text=TWO_STAGES)
    for kind in (CheckpointSaved, StageFinished):
        assert {(e.stage, e.step) for e in ran.of(kind)} >= {(e.stage, e.step) for e in whole.of(kind)}
        assert len(ran.of(kind)) == len({(e.stage, e.step) for e in ran.of(kind)})


@pytest.mark.parametrize("file", ["weights.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_costs_some_steps_and_nothing_else(file, launch, session, toys, same):
    changes = (DROPOUT, f"{TRAINING}.checkpoint={{every_steps: 2}}")
    whole = launch(*changes, folder="whole")
    interrupt(session, toys, *changes, step=5)
    folder = next(Path(whole.folder.parent.parent / "runs").rglob("step-00000005"))
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    ran = launch(*changes)
    assert same.bits(whole.weights, ran.weights)
    assert [e.resumed_at for e in ran.of(RunStarted)] == [None, 4]
    assert any("is damaged" in note for note in ran.notes)
    assert story(ran.events) == story(whole.events)


def test_a_run_with_damaged_checkpoints_only_does_not_start_again(launch, session, toys):
    interrupt(session, toys, step=2)
    made = session()
    for manifest in made.folder.rglob("manifest.json"):
        manifest.write_text("{}")
    with pytest.raises(FindingError, match="every checkpoint of stage `distil` is damaged"):
        made.run()
    with pytest.raises(FindingError, match="KD504"):
        session().run()
    assert launch(restart=True).of(RunStarted)[0].resumed_at is None


def test_without_the_best_checkpoint_the_last_student_is_kept(launch, session, toys):
    changes = (DATA, BY_LOSS, f"{TRAINING}.optimizer={{sgd: {{lr: 3}}}}")
    changes = (*changes, f"{TRAINING}.epochs=3")
    best = launch(*changes, folder="whole").of(StageFinished)[0].best_step
    interrupt(session, toys, *changes, step=best + 4)
    shutil.rmtree(session(*changes).folder / "checkpoints" / "distil" / f"step-{best:08d}")
    ran = launch(*changes)
    end = ran.of(StageFinished)[0]
    assert (end.best_step, end.metrics) == (None, {})
    assert any("the last state of the model is kept" in note for note in ran.notes)


def test_another_spec_under_the_same_name_is_refused_with_what_differs(launch, session, toys):
    interrupt(session, toys, step=2)
    with pytest.raises(FindingError) as caught:
        session(f"{TRAINING}.optimizer.adamw.lr=0.02", "models.teacher.toy.depth=4").run()
    (found,) = caught.value.findings
    assert found.code == "KD509"
    assert "stage `distil` of run `toy` began with another spec" in found.message
    assert found.notes == (
        "`models.teacher.toy.depth` was `3` and is `4`",
        "`stages.distil.training.optimizer.adamw.lr` was `0.01` and is `0.02`",
    )
    assert "--restart" in found.help
    log = session().folder / "events.jsonl"
    assert not [record for record in read(log) if isinstance(record.event, RunFailed)]
    assert launch().of(RunStarted)[-1].resumed_at == 2


def test_other_versions_of_the_libraries_are_noted_when_a_run_resumes(launch, session, toys, monkeypatch):
    interrupt(session, toys, step=2)
    now = dict(model_folder.versions())
    monkeypatch.setattr(model_folder, "versions", lambda: now | {"torch": "0.1"})
    (note,) = launch().notes
    assert f"(torch {now['torch']} → 0.1)" in note
    monkeypatch.undo()
    assert launch().notes == [note], "a finished run has nothing to go on with"


def test_what_the_weights_do_not_depend_on_may_change(launch, session, toys):
    interrupt(session, toys, step=2)
    ran = launch(f"{TRAINING}.log_every=2", f"{TRAINING}.checkpoint={{every_steps: 1, keep: 3}}")
    assert ran.of(RunStarted)[-1].resumed_at == 2


def test_a_stage_that_has_not_begun_may_change(session, launch, toys):
    interrupt(session, toys, text=TWO_STAGES, stage="fine_tune", step=2)
    ran = launch("stages.distil.training.steps=2", "models.student.toy.width=5", text=TWO_STAGES)
    assert [e.step for e in ran.of(StepDone)] == [1, 2, 3, 1, 2]
    with pytest.raises(FindingError, match="KD509"):
        session("stages.fine_tune.training.steps=2", text=TWO_STAGES).run()


def test_restart_puts_the_old_run_aside(launch, same):
    first = launch()
    weights = first.weights
    second = launch("seed=4", restart=True)
    third = launch("seed=5", restart=True)
    assert not same.bits(second.weights, weights)
    assert same.bits(load(third.folder / "earlier-1"), weights)
    assert (third.folder / "earlier-2" / "events.jsonl").is_file()
    shutil.rmtree(third.folder / "earlier-1")
    launch("seed=6", restart=True)
    assert sorted(path.name for path in third.folder.glob("earlier-*")) == ["earlier-1", "earlier-2"]


def load(folder):
    from safetensors.torch import load_file

    return load_file(folder / "student" / "model.safetensors")


KILLED = """\
import sys
from pathlib import Path
from kdspec.testing import run
run(Path(sys.argv[1]).read_text(), sys.argv[2], sys.argv[3])
"""


def start(text, output, tmp_path):
    (tmp_path / "spec.yaml").write_text(text)
    toys = Path(__file__).parent.parent / "shared" / "toys.py"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "spec.yaml"), str(output), str(toys)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def lines(folder):
    log = folder / "events.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(launch, tmp_path, same):
    """SIGKILL, half of the times while a checkpoint is written; it saves after every step."""
    text = TWO_STAGES.replace("steps: 3, ", "steps: 4, checkpoint: {every_steps: 1}, ").replace("steps: 4", "steps: 9")
    text = text.replace("{every_steps: 2}", "{every_steps: 1}")
    whole = launch(text=text, folder="whole")
    dice, output, kills, in_a_save = random.Random(0), tmp_path / "killed", 0, 0
    folder = output / "two"
    while not (folder / "table.json").is_file():
        process = start(text, output, tmp_path)
        target, at = lines(folder) + dice.randrange(6, 20), time.monotonic() + 120
        while process.poll() is None and lines(folder) < target:
            time.sleep(0.0005)
            assert time.monotonic() < at, "it hangs"
        while process.poll() is None and kills % 2 and not list(folder.glob("checkpoints/*/.tmp-*")):
            assert time.monotonic() < at, "it hangs"
        if process.poll() is None:
            process.kill()
            kills += 1
            process.wait()
            in_a_save += bool(list(folder.glob("checkpoints/*/.tmp-*")))
        errors = process.stderr.read().decode()
        process.stderr.close()
        assert process.returncode in (0, -signal.SIGKILL), errors
    assert kills >= 3, "no kill has hit"
    assert in_a_save, "no kill has hit a save"
    assert same.bits(whole.weights, load(folder))
    events = [record.event for record in read(folder / "events.jsonl")]
    assert story(events) == story(whole.events)
    assert sum(isinstance(event, RunFinished) for event in events) >= 1
    table = json.loads((folder / "table.json").read_text())
    assert [row["metrics"] for row in table] == [row.metrics for row in whole.result.table]
