"""A signal at any moment of a run: it finishes the step, saves, and the next start ends in the same weights."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from kdspec.builtins.tasks.tensors import TensorRows
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation import best_model
from kdspec.engine.run import checkpoint
from kdspec.engine.run import session as session_module
from kdspec.engine.run.event_log import read
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import CheckpointSaved, RunStarted

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
            for _ in range(times):
                os.kill(os.getpid(), number)
        return before(*args, **options)

    monkeypatch.setattr(owner, name, function)


# Where, in which call, and after which step the run stops: one that comes while step 4 is saved finds step 5 next.
MOMENTS = {
    "reading the data": (TensorRows, "encode", 1, 1),
    "drawing a batch": (Loader, "batches", 3, 1),
    "evaluating": (best_model, "evaluate", 3, 4),
    "saving": (checkpoint, "save_file", 3, 5),
    "publishing": (checkpoint.CheckpointStore, "_publish", 2, 5),
}


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_step_is_finished_and_saved(moment, number, session, launch, monkeypatch, same):
    whole = launch(*CHANGES, folder="whole")
    owner, name, call, step = MOMENTS[moment]
    interrupting(monkeypatch, owner, name, number, call=call)
    made = session(*CHANGES)
    with pytest.raises(Interrupted) as caught:
        made.run()
    assert caught.value.signal == number
    monkeypatch.undo()
    saved = [r.event.step for r in read(made.folder / "events.jsonl") if isinstance(r.event, CheckpointSaved)]
    assert saved[-1] == step
    ran = launch(*CHANGES)
    assert ran.of(RunStarted)[-1].resumed_at == saved[-1]
    assert same.bits(ran.weights, whole.weights)


def test_one_while_the_models_are_compared_lets_the_run_end(session, monkeypatch):
    """All is trained and saved by then."""
    interrupting(monkeypatch, session_module, "table", signal.SIGTERM)
    assert session(*CHANGES).run().table


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
