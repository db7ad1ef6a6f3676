"""A signal at any moment of a run: it finishes the step, saves, and the next start ends in the same weights."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from kdspec import hookimpl
from kdspec.builtins.tasks.tensors import TensorRows
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation import best_model
from kdspec.engine.forward import models
from kdspec.engine.preflight import look
from kdspec.engine.run import checkpoint, run_folder, stage_checkpoints, stage_run
from kdspec.engine.run import session as session_module
from kdspec.engine.run.event_log import read
from kdspec.engine.run.signals import Stop
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.events import CheckpointSaved, Evaluated, RunStarted, StageFinished, StepDone

TRAINING = "stages.distil.training"
CHANGES = (
    "models.student.toy.dropout=0.2",
    "tasks.rows.tensors.data.ragged={train: 11, validation: 5}",
    f"{TRAINING}.checkpoint={{every_steps: 2}}",
    f"{TRAINING}.evaluate={{every_steps: 2, metric: accuracy}}",
    f"{TRAINING}.teacher_cache={{use: on, folder: caches}}",
)
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def usual_handlers():
    """The suite may itself run where interrupts are ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupting(monkeypatch, owner, name, number, *, call=1, times=1):
    """In its n-th call the function is interrupted before it does anything."""
    before = getattr(owner, name)
    calls = iter(range(1, 10**6))

    def function(*args, **options):
        if next(calls) == call:
            for _ in range(times - 1):
                with suppress(Stop):
                    os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return before(*args, **options)

    monkeypatch.setattr(owner, name, function)


# Where, in which call, and which step is saved then. Outside of a step nothing waits.
MOMENTS = {
    "reading the data": (session_module, "built_tasks", 1, None),
    "encoding the rows": (TensorRows, "encode", 1, None),
    "building a model": (models.Models, "module", 2, None),
    "looking at the rows": (look.Look, "__call__", 1, None),
    "filling a cache": (TeacherCache, "__call__", 2, 1),
    "drawing a batch": (Loader, "batches", 3, 1),
    "evaluating": (best_model, "evaluate", 3, 4),
    "saving": (checkpoint, "save_file", 3, 4),
    "publishing": (checkpoint.CheckpointStore, "_publish", 2, 4),
    "loading the best student": (stage_checkpoints.StageCheckpoints, "load_best", 1, 6),
    "exporting": (models.Models, "save", 1, 6),
    "writing the card": (stage_run, "write_card", 1, 6),
    "recording the end of the stage": (run_folder.RunFolder, "finish", 1, 6),
    "comparing the models": (session_module, "table", 1, 6),
    "copying the student": (run_folder.RunFolder, "export", 1, 6),
    "writing the table": (run_folder.RunFolder, "keep_table", 1, 6),
}
OF_THEM = ("looking at the rows", "drawing a batch", "evaluating", "publishing", "exporting", "comparing the models")


def steps(folder, kind):
    log = folder / "events.jsonl"
    return [r.event.step for r in read(log) if isinstance(r.event, kind)] if log.exists() else []


def told(events):
    """What the log tells of training, without times and starts."""
    kinds = (StepDone, Evaluated, CheckpointSaved, StageFinished)
    return [
        replace(event, seconds=0.0) if hasattr(event, "seconds") else event
        for event in events
        if isinstance(event, kinds)
    ]


def stopped(session, monkeypatch, moment, number, sets):
    owner, name, call, _ = MOMENTS[moment]
    made = session(*sets)
    with monkeypatch.context() as patched:
        interrupting(patched, owner, name, number, call=call)
        with pytest.raises(Interrupted) as caught:
            made.run()
    assert caught.value.signal == number
    return made


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        pytest.param(moment, number, marks=() if moment in OF_THEM and number == signal.SIGTERM else pytest.mark.slow)
        for moment in MOMENTS
        for number in (signal.SIGINT, signal.SIGTERM)
    ],
)
def test_it_ends_the_run_which_resumes_as_if_there_had_been_none(moment, number, session, launch, monkeypatch, same):
    sets = (*CHANGES, WORSE) if moment == "loading the best student" else CHANGES
    whole = launch(*sets, folder="whole")
    made = stopped(session, monkeypatch, moment, number, sets)
    step = MOMENTS[moment][-1]
    saved = steps(made.folder, CheckpointSaved)
    assert (saved[-1] if saved else None) == step
    ran = launch(*sets)
    assert ran.of(RunStarted)[-1].resumed_at == (step if moment not in ENDED else None)
    assert same.bits(ran.weights, whole.weights)
    extra = [event for event in told(ran.events) if event not in told(whole.events)]
    assert all(isinstance(event, CheckpointSaved) and event.step == step for event in extra)
    assert [each for each in told(ran.events) if each not in extra] == told(whole.events)
    assert [row.metrics for row in ran.result.table] == [row.metrics for row in whole.result.table]


WORSE = f"{TRAINING}.optimizer={{sgd: {{lr: 30}}}}"
ENDED = ("comparing the models", "copying the student", "writing the table")
"""The stage is over by then: nothing resumes within it."""


class Hanging:
    """An observer that sleeps once a step is done."""

    def __init__(self, step):
        self.step, self.__name__ = step, "hanging"

    @hookimpl
    def kdspec_observe(self, event, session):
        if isinstance(event, StepDone) and event.step == self.step:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            time.sleep(60)


RARELY = (*CHANGES[:2], f"{TRAINING}.checkpoint={{every_steps: 6}}", f"{TRAINING}.evaluate=null")


@pytest.mark.slow
def test_a_hanging_observer_does_not_hold_it_and_the_step_is_saved(session, launch, same):
    whole = launch(*RARELY, folder="whole")
    made = session(*RARELY, plugins=[Hanging(3)])
    began = time.monotonic()
    with pytest.raises(Interrupted):
        made.run()
    assert time.monotonic() - began < 15
    assert steps(made.folder, CheckpointSaved) == [3]
    assert same.bits(launch(*RARELY).weights, whole.weights)


@pytest.mark.slow
@pytest.mark.parametrize(("where", "saved"), [("terms", [2]), ("_finish", [])])
def test_a_long_step_is_cut_and_saved_only_if_it_has_changed_nothing(where, saved, session, launch, same, monkeypatch):
    """Within a micro-batch nothing has changed yet; after the optimizer's step the weights are those of no step."""
    whole = launch(*RARELY, folder="whole")
    made = session(*RARELY)
    before, calls = getattr(TrainingLoop, where), iter(range(1, 1000))
    third = {"terms": 5, "_finish": 3}[where]

    def long(self, *args, **options):
        found = before(self, *args, **options)
        if next(calls) == third:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            time.sleep(60)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, where, long)
        with pytest.raises(Interrupted):
            made.run()
    assert steps(made.folder, CheckpointSaved) == saved
    ran = launch(*RARELY)
    assert same.bits(ran.weights, whole.weights)
    assert told(ran.events)[-1] == told(whole.events)[-1]


def test_an_error_that_a_library_makes_of_it_is_no_error_of_the_run(session, launch, monkeypatch):
    made = session(*CHANGES)
    before = models.Models.module

    def wrapped(self, name):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return before(self, name)
        except BaseException as error:
            raise RuntimeError("cannot load") from error

    with monkeypatch.context() as patched:
        patched.setattr(models.Models, "module", wrapped)
        with pytest.raises(Interrupted):
            made.run()
    assert launch(*CHANGES).result.table


@BOTH
@pytest.mark.parametrize(("moment", "last"), [("evaluating", 4), ("saving", 2), ("publishing", 2)])
def test_a_second_one_ends_at_once_and_leaves_the_last_checkpoint(
    moment, last, number, session, launch, monkeypatch, same
):
    whole = launch(*CHANGES, folder="whole")
    owner, name, call, _ = MOMENTS[moment]
    made = session(*CHANGES)
    child = os.fork()
    if not child:
        with suppress(BaseException):
            interrupting(monkeypatch, owner, name, number, call=call, times=2)
            made.run()
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + number
    ran = launch(*CHANGES)
    assert ran.of(RunStarted)[-1].resumed_at == last
    assert same.bits(ran.weights, whole.weights)
