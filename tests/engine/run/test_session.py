"""A run as a whole: its folder, its events, its observers, its table."""

from __future__ import annotations

import json
import os
import shutil
import stat
import warnings
from dataclasses import asdict
from importlib.util import find_spec

import pytest
import yaml

from kdspec import LogitLoss, hookimpl
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.lock import RunLock
from kdspec.engine.run.resume_check import has_trained
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import Note, RunFailed, RunFinished, RunStarted, StageFinished, StageStarted, StepDone

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
ROWS = "tasks.rows.tensors.data.ragged={train: 11, validation: 6, test: 7}"


class Observer:
    """Keeps the names of the events that it has seen; may raise at one of them."""

    def __init__(self, name="watching", bad=""):
        self.__name__, self.bad, self.seen, self.closed = name, bad, [], 0

    @hookimpl
    def kdspec_observe(self, event, session):
        if not self.seen:
            session.at_end.callback(self.close)
        self.seen.append(event)
        if type(event).__name__ == self.bad:
            raise ValueError("no room on the wall")

    def close(self):
        self.closed += 1
        if self.bad == "close":
            raise OSError("gone")


def refused(call):
    with pytest.raises(FindingError) as caught:
        call()
    return caught.value.findings


def test_events_come_in_order_and_observers_see_what_the_log_has(launch):
    observer = Observer()
    ran = launch(plugins=[observer])
    assert observer.seen == ran.events
    kinds = [type(event) for event in ran.events]
    assert kinds[:2] == [RunStarted, StageStarted]
    assert kinds[-2:] == [StageFinished, RunFinished]
    assert [event.step for event in ran.of(StepDone)] == list(range(1, 7))
    assert observer.closed == 1


def test_steps_are_logged_each_so_many(launch):
    ran = launch(f"{TRAINING}.log_every=4")
    assert [event.step for event in ran.of(StepDone)] == [1, 4, 6]


def test_an_observer_that_raises_is_reported_once_and_the_run_continues(launch, same):
    alone = launch(folder="alone")
    bad, good = Observer("bad_one", "StepDone"), Observer("good_one")
    ran = launch(plugins=[bad, good])
    assert same.bits(ran.weights, alone.weights)
    (note,) = [event for event in ran.of(Note) if "observer" in event.text]
    assert "bad_one" in note.text
    assert "raised ValueError: no room on the wall; it is not called again" in note.text
    assert len([event for event in bad.seen if isinstance(event, StepDone)]) == 1
    assert good.seen == ran.events
    assert (bad.closed, good.closed) == (1, 1)


def test_an_observer_is_asked_again_in_the_next_run(session):
    """What one run has found out about it is not kept by the registry, which runs may share."""
    bad = Observer("bad_one", "RunStarted")
    first = session(plugins=[bad])
    first.run()
    second = type(first)(first.plan, first.registry, output=first.output / "again", device="cpu")
    second.run()
    assert len(bad.seen) == 2


def test_an_observer_that_fails_at_the_end_costs_nothing(launch):
    ran = launch(plugins=[Observer("bad_one", "close")])
    assert any("an observer raised OSError at the end: gone" in note for note in ran.notes)


class Growing(LogitLoss):
    """Infinite from the fifth call on, in the third step of two micro-batches."""

    name = "growing"

    def build(self, context):
        calls = iter(range(10**6))

        def loss(student, teacher, *, temperature):
            return (student - teacher.detach()).square().mean() * (1.0 if next(calls) < 4 else float("inf"))

        return loss


INFINITE = f"{GENERAL}.soft_labels={{loss: growing}}"


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is optional")
@pytest.mark.parametrize("end", ["finished", "failed", "interrupted"])
def test_curves_are_written_and_closed_however_the_run_ends(end, session, toys, tmp_path):
    changes, plugins = [ROWS, f"{TRAINING}.evaluate={{}}"], []
    if end == "failed":
        changes, plugins = [*changes, INFINITE], [Growing]
    if end == "interrupted":
        plugins = [toys.StopAt(3)]
    made = session(*changes, plugins=plugins)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            made.run()
        except (FindingError, Interrupted):
            assert end != "finished"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(made.folder / "tensorboard")).Reload()
    names = set(curves.Tags()["scalars"])
    assert {"distil/loss", "distil/terms/soft_labels", "distil/lr/student", "distil/gradient_norm"} <= names
    if end == "finished":
        assert "distil/validation/accuracy" in names
        assert [point.step for point in curves.Scalars("distil/loss")] == list(range(1, 7))


def test_a_failed_run_is_logged_as_failed(session):
    made = session(INFINITE, plugins=[Growing])
    refused(made.run)
    last = json.loads((made.folder / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["code"]) == ("RunFailed", "KD501")
    assert RunFailed.__name__ == last["event"]


def test_a_folder_in_use_is_refused(session):
    made = session()
    with RunLock(made.folder):
        (found,) = refused(session().run)
    assert found.code == "KD505"
    assert str(os.getpid()) in found.message
    made.run()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_reported(session, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        (found,) = refused(session().run)
    finally:
        (tmp_path / "runs").chmod(stat.S_IRWXU)
    assert found.code == "KD508"


def test_a_file_in_place_of_the_folder_is_reported(session, tmp_path):
    (tmp_path / "runs").write_text("")
    (found,) = refused(session().run)
    assert found.code == "KD508"


@pytest.mark.parametrize("name", ["stages", "models", "checkpoints"])
def test_a_file_in_the_way_is_reported_and_nothing_is_lost(name, session, launch):
    made = session()
    made.folder.mkdir(parents=True)
    (made.folder / name).write_text("mine")
    (found,) = refused(made.run)
    assert found.code == "KD508"
    assert (made.folder / name).read_text() == "mine"
    (made.folder / name).unlink()
    assert launch().of(StageFinished)


def test_the_table_has_a_row_for_each_model(launch):
    fine_tune = "{distiller: {supervised: {model: teacher}}, training: {steps: 2, evaluate: null}}"
    alone = "{distiller: {supervised: {model: alone}}, training: {steps: 2, evaluate: null}}"
    distil = "{distiller: {general: {teacher: teacher, student: student}}, training: {steps: 2, evaluate: null}}"
    ran = launch(
        ROWS,
        "models.alone={toy: {}}",
        "adaptors={}",
        f"stages={{fine_tune: {fine_tune}, alone: {alone}, distil: {distil}}}",
        *(
            f"adaptors.{name}={{logits: output.logits, labels: batch.label}}"
            for name in ("teacher", "student", "alone")
        ),
    )
    rows = {row.model: row for row in ran.result.table}
    assert list(rows) == ["teacher", "student", "alone"]
    assert [row.role for row in rows.values()] == ["teacher", "student", "baseline"]
    assert {row.split for row in rows.values()} == {"test"}
    assert rows["teacher"].agreement is None
    assert 0 <= rows["student"].agreement <= 1
    assert [row.agrees_on for row in rows.values()] == [None, "rows with the same class", "rows with the same class"]
    assert {row.selected_by for row in rows.values()} == {"loss"}
    assert all(0 <= row.metrics["accuracy"] <= 1 for row in rows.values())
    assert all(row.latency_ms > 0 for row in rows.values())
    weights = ran.weights
    assert rows["student"].parameters == sum(tensor.numel() for tensor in weights.values())
    assert rows["student"].bytes == (ran.folder / "models" / "student" / "model.safetensors").stat().st_size
    assert [asdict(row) for row in ran.result.table] == json.loads((ran.folder / "table.json").read_text())
    assert ran.of(RunFinished)[0].table.keys() == rows.keys()


def test_the_metric_that_a_stage_names_is_that_of_its_student(launch):
    ran = launch(ROWS, "stages.distil.training.evaluate={every_epochs: 1, metric: accuracy}")
    assert {row.model: row.selected_by for row in ran.result.table} == {"teacher": "loss", "student": "accuracy"}


def test_the_student_of_the_run_is_that_of_the_last_stage_with_a_teacher(launch, same):
    later = "{distiller: {supervised: {model: alone}}, training: {steps: 1}}"
    ran = launch(
        "models.alone={toy: {width: 3}}",
        "adaptors.alone={logits: output.logits, labels: batch.label}",
        f"stages.later={later}",
    )
    assert ran.weights["out.weight"].shape[1] == 4


def test_the_folder_holds_what_a_reader_looks_for(launch):
    ran = launch(ROWS, f"{TRAINING}.evaluate={{}}")
    assert {path.name for path in ran.folder.iterdir() if not path.name.startswith(".")} == {
        "checkpoints", "events.jsonl", "identity.json", "models", "plan.json", "spec.yaml", "stages", "student",
        "table.json", "tensorboard",
    }  # fmt: skip
    card = (ran.folder / "student" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "# toy: student" in card
    assert "| accuracy |" in card
    assert "distilled from `teacher` by the strategy `general` in stage `distil`" in card
    assert "library_name: transformers" not in card
    assert "| student (student) |" in card
    written = yaml.safe_load(card.split("```yaml")[1].split("```")[0])
    assert written["stages"]["distil"]["training"]["evaluate"] == {}, "as written, without the defaults"
    assert {path.name for path in ran.folder.rglob(".*")} == {".lock"}


def test_unlabelled_rows_teach_only_where_there_is_a_teacher(launch):
    rows = "tasks.rows.tensors.data.ragged={train: 4, unlabelled: 5}"
    taught = launch(rows, f"{TRAINING}.batch_size=9", folder="taught")
    assert taught.of(StageStarted)[0].rows == 9
    alone = launch(rows, "stages.distil.distiller={supervised: {model: student}}", folder="alone")
    assert alone.of(StageStarted)[0].rows == 4


def test_a_task_without_rows_is_reported(session, monkeypatch):
    from kdspec.builtins.tasks.tensors import TensorRows

    monkeypatch.setattr(TensorRows, "rows", lambda self, split: 0)
    (found,) = refused(session().run)
    assert found.code == "KD502"
    assert found.message == "task `rows` has no rows in `train`"


def test_a_second_signal_is_not_needed_to_stop_between_stages(session, toys, launch):
    """Asked in the last step of a stage, the run ends with it; nothing of the next one has begun."""
    alone = "models.alone={toy: {}}"
    stages = "stages.alone={distiller: {supervised: {model: alone}}, training: {steps: 1}}"
    adaptor = "adaptors.alone={logits: output.logits, labels: batch.label}"
    with pytest.raises(Interrupted):
        session(alone, stages, adaptor, plugins=[toys.StopAt(6)]).run()
    ran = launch(alone, stages, adaptor)
    started = [(event.stage, event.start_step) for event in ran.of(StageStarted)]
    assert started == [("distil", 0), ("distil", 6), ("alone", 0)]


def test_only_a_run_of_the_same_spec_with_a_checkpoint_has_trained(session):
    made = session("stages.distil.training.checkpoint={every_steps: 1}")
    folder = RunFolder(made.folder)
    assert not has_trained(made.plan, folder)
    made.run()
    assert has_trained(made.plan, folder)
    shutil.rmtree(made.folder / "checkpoints")  # as `kdspec clean` leaves a finished run
    assert has_trained(made.plan, folder)
    other = session("stages.distil.training.checkpoint={every_steps: 1}", "seed=4")
    assert not has_trained(other.plan, folder)
