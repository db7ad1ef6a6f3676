"""Faults around a run: each is reported with what to do, and nothing that was saved is lost."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdspec import FeatureLoss, LogitLoss, Model, hookimpl
from kdspec.builtins.tasks.tensors import RowAccuracy, TensorRows
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation import evaluate
from kdspec.engine.run import checkpoint, event_log, resources
from kdspec.engine.run import session as session_module
from kdspec.engine.run.event_log import read
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import Note, RunFailed, RunStarted, StageFinished, StepDone
from kdspec.testing import run, tiny

DISTIL = "stages.distil"
GENERAL = f"{DISTIL}.distiller.general"
TRAINING = f"{DISTIL}.training"
SAVING = (f"{TRAINING}.checkpoint={{every_steps: 1}}", "models.student.toy.dropout=0.2")
DATA = "tasks.rows.tensors.data.ragged={train: 11, validation: 5, gaps: 4}"
NO_MEMORY = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate 1"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
)
ONE_TERM = (f"{GENERAL}.hard_labels={{weight: 0}}", f"{GENERAL}.matches=[]")


class At:
    """Does something once a step is done."""

    def __init__(self, step, action):
        self.step, self.action = step, action
        self.__name__ = "at"

    @hookimpl
    def kdspec_observe(self, event, session):
        if isinstance(event, StepDone) and event.step == self.step:
            self.action(session.folder)


def refused(call):
    with pytest.raises((DiagnosticError, FindingError)) as caught:  # with the lines, where a text is run
        call()
    (found,) = caught.value.args
    return found


def left(folder):
    """What is in a stage's folder of checkpoints, hidden files too."""
    return sorted(path.name for path in (folder / "checkpoints" / "distil").iterdir())


class TestADiskThatRefuses:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
    @pytest.mark.parametrize("all_of_it", [False, True])
    def test_it_stops_the_run_which_resumes_when_it_is_corrected(
        self, number, all_of_it, launch, session, monkeypatch, same
    ):
        """Only files of checkpoints are refused, or everything is that must be on the disk."""
        whole = launch(*SAVING, folder="whole")

        def refuse(*_, **__):
            raise OSError(number, os.strerror(number))

        def breaks(folder):
            monkeypatch.setattr(checkpoint, "save_file", refuse)
            if all_of_it:
                monkeypatch.setattr(os, "fsync", refuse)

        made = session(*SAVING, plugins=[At(3, breaks)])
        found = refused(made.run)
        assert found.code == "KD508"
        assert found.message.endswith(f"checkpoints/distil/step-00000003`: {os.strerror(number).lower()}")
        assert ["bytes are needed" in found.notes[0], "bytes are free there" in found.notes[1]] == [True, True]
        assert found.help
        assert left(made.folder) == ["step-00000001", "step-00000002"]
        failed = [r.event for r in read(made.folder / "events.jsonl") if isinstance(r.event, RunFailed)]
        assert [event.code for event in failed] == ([] if all_of_it else ["KD508"])
        monkeypatch.undo()
        ran = launch(*SAVING)
        assert [start.resumed_at for start in ran.of(RunStarted)] == [None, 2]
        assert same.bits(ran.weights, whole.weights)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's writer's
    @pytest.mark.parametrize("size", [5, 12, 20, 22])
    def test_a_full_file_system_does_too(self, size, session, launch, tmp_path, same):
        """A real one, of so many pages; what fits differs."""
        if shutil.which("mount") is None or os.geteuid() != 0:
            pytest.skip("needs the right to mount a file system")
        runs = tmp_path / "runs"
        runs.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size * 4096}", "tmpfs", str(runs)]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a file system")
        try:
            found = refused(lambda: launch(*SAVING))
            assert found.code == "KD508"
            assert str(runs) in found.message
            assert "no space left on device" in found.message
            assert "free some space" in found.help
            assert not list(runs.rglob(".tmp-*")), "nothing is left half done"
            for folder in runs.glob("toy/checkpoints/distil/step-*"):
                assert checkpoint.CheckpointStore(folder.parent).load(int(folder.name[5:]))
            subprocess.run(["mount", "-o", "remount,size=2m", str(runs)], check=True)
            weights = launch(*SAVING).weights
        finally:
            # Lazily, for TensorBoard's writer may not have let go of a file that it could not write.
            subprocess.run(["umount", "--lazy", str(runs)], check=True)
        assert same.bits(weights, launch(*SAVING, folder="whole").weights)

    @pytest.mark.parametrize(("missing", "says"), [("locks", "has no locks"), ("sync", "cannot sync folders")])
    def test_one_without_locks_or_sync_is_a_warning(self, missing, says, session, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        def of_files(descriptor, fsync=os.fsync):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            fsync(descriptor)

        if missing == "locks":
            monkeypatch.setattr(fcntl, "lockf", refuse)
            monkeypatch.setattr(fcntl, "flock", refuse)
        else:
            monkeypatch.setattr(os, "fsync", of_files)
        made = session(*SAVING)
        result = made.run()
        assert (result.student / "model.safetensors").is_file()
        notes = [r.event for r in read(made.folder / "events.jsonl") if isinstance(r.event, Note)]
        assert [says in note.text for note in notes if note.level == "warning"] == [True]

    def test_a_log_that_cannot_be_written_is_reported(self, session, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        made = session(*SAVING, plugins=[At(2, lambda _: monkeypatch.setattr(os, "fsync", refuse))])
        found = refused(made.run)
        assert (found.code, "no space left on device" in found.message) == ("KD508", True)


# The thread of TensorBoard's writer finds its file gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
class TestAFolderThatGoes:
    @pytest.mark.parametrize("again", ["gone", "made anew", "without its lock"])
    def test_the_run_stops_and_does_not_write_into_another(self, again, session, launch, tmp_path, same):
        whole = launch(*SAVING, folder="whole")

        def goes(folder):
            if again == "without its lock":
                (folder / ".lock").unlink()
                return
            folder.rename(tmp_path / "moved")
            if again == "made anew":
                folder.mkdir()
                (folder / ".lock").touch()

        made = session(*SAVING, plugins=[At(3, goes)])
        found = refused(made.run)
        assert found.code == "KD508"
        assert found.message == f"the run folder `{made.folder}` is no longer the one that this run started in"
        assert "run the same command again" in found.help
        if again == "gone":
            assert not made.folder.exists()
        elif again == "made anew":
            assert [path.name for path in made.folder.iterdir()] == [".lock"]
            shutil.rmtree(made.folder)
        if again != "without its lock":
            (tmp_path / "moved").rename(made.folder)
        ran = launch(*SAVING)
        assert ran.of(RunStarted)[-1].resumed_at == 2
        assert same.bits(ran.weights, whole.weights)


class TestRoomOnTheDisk:
    @pytest.fixture
    def free(self, monkeypatch):
        """Sets how many bytes are free."""

        def set_(size):
            monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: SimpleNamespace(free=size))

        return set_

    def test_too_little_disk_space_for_checkpoints_is_reported_before_the_first_step(self, session, free):
        free(4000)
        made = session()
        found = refused(made.run)
        assert found.code == "KD508"
        assert found.message == f"not enough disk space in `{made.folder}` for the checkpoints of stage `distil`"
        assert found.notes[0].startswith("a checkpoint has ")
        assert found.notes[1] == "4 kB are free"
        assert "--output" in found.help
        assert not [r for r in read(made.folder / "events.jsonl") if isinstance(r.event, StepDone)]

    def test_the_estimate_is_not_above_what_is_written(self, session, free, launch):
        """The estimate is never above what lies there in the end, so that no run is refused that would have fitted."""
        ran = launch(f"{TRAINING}.checkpoint={{every_steps: 1, keep: 1}}", folder="whole")
        files = [*ran.folder.glob("checkpoints/distil/*/*.safetensors"), *ran.folder.glob("student/*.safetensors")]
        free(sum(path.stat().st_size for path in files))
        launch(f"{TRAINING}.checkpoint={{every_steps: 6, keep: 1}}")

    def test_a_run_that_resumes_counts_existing_checkpoints(self, session, toys, launch, free):
        with pytest.raises(Interrupted):
            session(*SAVING, plugins=[toys.StopAt(4)]).run()
        whole = sum(p.stat().st_size for p in session().folder.rglob("step-00000004/*.safetensors"))
        free(2 * whole)
        assert launch(*SAVING).of(StageFinished)


class Hungry(LogitLoss):
    """Runs out of memory in the forward or the backward pass."""

    name = "hungry"
    backward: bool = False
    """In which."""

    def build(self, context: Any) -> Any:
        class Exhausted(torch.autograd.Function):
            @staticmethod
            def forward(ctx, value):
                return value.clone()

            @staticmethod
            def backward(ctx, gradient):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        def loss(student, teacher, *, temperature):
            if not self.backward:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
            return Exhausted.apply(student).sum()

        return loss


class TestMemoryThatIsExhausted:
    @pytest.mark.parametrize(("backward", "part"), [("false", "the loss"), ("true", "the backward pass")])
    def test_the_part_is_named_and_what_else_lies_in_it(self, backward, part, session):
        made = session(
            f"{GENERAL}.soft_labels={{loss: {{hungry: {{backward: {backward}}}}}}}", *ONE_TERM, plugins=[Hungry]
        )
        found = refused(made.run)
        assert found.code == "KD511"
        assert found.message.startswith(f"out of memory in {part}")
        assert found.at is not None
        assert "accumulate" in found.help
        assert found.notes[0].startswith("`student`, its projections and losses use ")
        assert "the optimizer's state" in found.notes[0]
        assert found.notes[1].startswith("teacher `teacher` uses ")

    @pytest.mark.parametrize("model", ["teacher", "student"])
    @pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
    def test_a_model_is_named(self, model, error, session, monkeypatch):
        made = session()
        build = type(made.plan.spec.models[model]).build

        def built(self, context):
            module = build(self, context)
            if context.name == model:
                module.register_forward_hook(_raises(error))
            return module

        monkeypatch.setattr(type(made.plan.spec.models[model]), "build", built)
        found = refused(made.run)
        assert found.code == "KD511"
        assert f"model `{model}`" in found.message

    @pytest.mark.parametrize("error", NO_MEMORY, ids=range(len(NO_MEMORY)))
    def test_it_is_known_in_each_form(self, error, session, monkeypatch):
        monkeypatch.setattr(RowAccuracy, "merge", _raises(error))
        assert refused(session(DATA, f"{TRAINING}.evaluate={{every_steps: 2}}").run).code == "KD511"

    @pytest.mark.parametrize(
        ("owner", "name", "message", "advice"),
        [
            (TensorRows, "encode", "the rows of task `rows`", "fewer of them"),
            (RowAccuracy, "merge", "the metrics of task `rows`, while `student` is evaluated", "fewer of them"),
            (evaluate.HardLoss, "add", " while `student` is evaluated", "fewer of them"),
            (TensorRows, "hard_loss", "the loss of task `rows`", "`batch_size`"),
            (Model, "save", "saving model `student`", "`--device`"),
            (torch.optim.AdamW, "step", "optimizer `adamw`, for its state", "`--device`"),
            (session_module, "table", " while the models are compared", "`--device`"),
        ],
    )
    def test_what_asked_for_it_is_named_with_a_help_that_fits(self, owner, name, message, advice, session, monkeypatch):
        def without(*_, **__):
            raise MemoryError

        session(DATA, f"{TRAINING}.evaluate={{every_steps: 2}}", folder="earlier").run()  # the look is known then
        monkeypatch.setattr(owner, name, without)
        found = refused(session(DATA, f"{TRAINING}.evaluate={{every_steps: 2}}").run)
        assert found.code == "KD511"
        assert found.message.startswith("out of memory" + ("" if message.startswith(" ") else " in ") + message)
        assert advice in found.help
        assert ("batch_size" in found.help) == (advice == "`batch_size`")

    def test_the_batches_of_the_table_are_not_those_of_the_spec(self, session, monkeypatch):
        """A smaller `batch_size` would not help there."""
        before = session_module.table

        def table(plan, models, *args):
            models.module("teacher").register_forward_hook(_raises(MemoryError()))
            return before(plan, models, *args)

        monkeypatch.setattr(session_module, "table", table)
        found = refused(session(DATA).run)
        assert found.message == "out of memory in model `teacher`, while the models are compared"
        assert "batch_size" not in found.help

    def test_an_error_that_is_none_stays_as_it_is(self, session, monkeypatch):
        monkeypatch.setattr(session_module, "table", _raises(RuntimeError("something else")))
        with pytest.raises(RuntimeError, match="something else"):
            session().run()

    def test_an_evaluation_without_memory_costs_no_step(self, session, launch, same, monkeypatch):
        sets = (DATA, f"{TRAINING}.evaluate={{every_steps: 3}}")
        whole = launch(*sets, folder="whole")
        with monkeypatch.context() as patched:
            patched.setattr(RowAccuracy, "merge", _raises(MemoryError()))
            made = session(*sets)
            assert refused(made.run).code == "KD511"
        ran = launch(*sets)
        assert ran.of(RunStarted)[-1].resumed_at == 3
        assert same.bits(ran.weights, whole.weights)


def _raises(error):
    def hook(*_):
        raise error

    return hook


class Late(LogitLoss):
    """No number in the n-th call."""

    name = "late"
    at: int = 3
    """In which call, counted from 1."""

    def build(self, context: Any) -> Any:
        calls = iter(range(1, 10**6))

        def loss(student, teacher, *, temperature):
            value = (student - teacher.detach()).square().mean()
            return value * float("nan") if next(calls) == self.at else value

        return loss


class Numb(Model):
    """A model that gives NaN for rows with one token."""

    name = "numb"

    def build(self, context: Any) -> Any:
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.out = nn.Linear(6, 5).double()

            def forward(self, ids, mask, label=None):
                logits = self.out(ids.double())
                return {"logits": logits.masked_fill((mask.sum(1) == 1)[:, None], float("nan"))}

        return Module()


class TestALossThatIsNoNumber:
    LOSS = (f"{GENERAL}.soft_labels={{loss: {{late: {{at: 5}}}}}}", *ONE_TERM)

    def test_its_batch_is_saved_with_the_rows(self, session):
        """Two micro-batches a step; the fifth call is the first micro-batch of the third step."""
        made = session(*self.LOSS, plugins=[Late])
        found = refused(made.run)
        assert found.code == "KD501"
        place = made.folder / "not-finite" / "distil-step-00000003"
        (note,) = [note for note in found.notes if str(place) in note]
        about = json.loads((place / "about.json").read_text())
        assert (about["stage"], about["step"], about["terms"]) == ("distil", 3, {"soft_labels": "nan"})
        rows = [part["rows"] for part in about["micro_batches"]]
        assert f"the rows are {', '.join(str(row) for part in rows for row in part)}" in note
        saved = load_file(place / about["micro_batches"][0]["files"]["student"])
        assert saved["ids"].tolist() == [[(7 * n + 3 * at + n * at) % 11 for at in range(6)] for n in rows[0]]
        assert about["micro_batches"][0]["files"]["teacher"] == about["micro_batches"][0]["files"]["student"]

    def test_a_batch_that_cannot_be_saved_does_not_hide_the_loss(self, session):
        made = session(*self.LOSS, plugins=[Late])
        made.folder.mkdir(parents=True)
        (made.folder / "not-finite").write_text("mine")
        found = refused(made.run)
        assert found.code == "KD501"
        assert any("its batch could not be saved" in note for note in found.notes)

    def test_a_teacher_with_non_finite_logits_is_named(self, session):
        made = session(
            "models.teacher={numb: {}}", "adaptors.teacher={logits: output.logits}", *ONE_TERM, plugins=[Numb]
        )
        found = refused(made.run)
        assert found.code == "KD501"
        assert "`logits` of teacher `teacher` has NaN" in found.notes


class Leaving(FeatureLoss):
    """Ends the process, as some libraries do."""

    name = "leaving"
    when: str = "step"
    """`step` or `build`."""

    def build(self, context: Any) -> Any:
        def leave(*_, **__):
            raise SystemExit(0)

        return leave() if self.when == "build" else leave


class TestAPluginThatEndsTheProcess:
    @pytest.mark.parametrize("when", ["step", "build"])
    def test_it_is_a_failure_and_not_an_end(self, when, session):
        match = f"{GENERAL}.matches=[{{feature: hidden, loss: {{leaving: {{when: {when}}}}}, layers: {{3: 2}}}}]"
        found = refused(session(match, plugins=[Leaving]).run)
        assert found.code == "KD506"
        assert "raised SystemExit" in found.message

    def test_an_observer_is_dropped(self, launch):
        def leave(folder):
            raise SystemExit(0)

        ran = launch(plugins=[At(2, leave)])
        assert any("raised SystemExit: 0; it is not called again" in note for note in ran.notes)
        assert ran.of(StageFinished)


class TestASpecThatHasChanged:
    def test_resume_continues_with_the_changes_and_reports_them(self, session, toys, launch):
        change = (f"{TRAINING}.epochs=3", f"{TRAINING}.optimizer.adamw={{lr: 0.02, weight_decay: 0.1}}")
        with pytest.raises(Interrupted):
            session(plugins=[toys.StopAt(2)]).run()
        assert "--resume" in refused(session(*change).run).help
        made = session(*change)
        made.resume = True
        result = made.run()
        events = [record.event for record in read(result.folder / "events.jsonl")]
        (note,) = [event for event in events if isinstance(event, Note) and event.level == "warning"]
        assert note.text.startswith("resuming with changes in `distil`: ")
        assert "`stages.distil.training.epochs` was `2" in note.text
        assert "`stages.distil.training.optimizer.adamw.lr` was `0.01` and is `0.02`" in note.text
        assert [event.resumed_at for event in events if isinstance(event, RunStarted)] == [None, 2]
        steps = [event for event in events if isinstance(event, StepDone)]
        assert [event.step for event in steps] == list(range(1, 10))
        manifest = json.loads((result.folder / "checkpoints/distil/step-00000009/manifest.json").read_text())
        (group, *_) = manifest["meta"]["optimizer"]["groups"]
        assert group["options"]["weight_decay"] == 0.1
        assert session(*change).run().already_finished, "it is that of the changed spec now"

    def test_a_finished_run_resumes_too(self, session, launch):
        launch()
        made = session(f"{TRAINING}.epochs=3")
        made.resume = True
        result = made.run()
        assert not result.already_finished
        events = [record.event for record in read(result.folder / "events.jsonl")]
        assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 10))
        assert len([event for event in events if isinstance(event, StageFinished)]) == 1

    def test_until_there_is_a_new_checkpoint_it_has_to_be_insisted_on(self, session, toys):
        """The one that lies there is of the old spec, optimizer and all."""
        with pytest.raises(Interrupted):
            session(plugins=[toys.StopAt(2)]).run()
        change = f"{TRAINING}.optimizer.adamw.lr=0.02"

        def fail(folder):
            raise KeyboardInterrupt

        made = session(change, plugins=[At(3, fail)])
        made.resume = True
        with pytest.raises(KeyboardInterrupt):
            made.run()
        found = refused(session(change).run)
        assert found.code == "KD509"
        assert found.notes == ("`stages.distil.training.optimizer.adamw.lr` was `0.01` and is `0.02`",)

    def test_weights_that_do_not_fit_are_reported_and_nothing_is_lost(self, session, toys, launch):
        with pytest.raises(Interrupted):
            session(plugins=[toys.StopAt(2)]).run()
        made = session("models.student.toy.width=5")
        made.resume = True
        found = refused(made.run)
        assert found.code == "KD504"
        assert "do not fit the model" in found.message
        assert launch().of(RunStarted)[-1].resumed_at == 2

    def test_an_unchanged_spec_is_not_remarked_on(self, session, toys, same, launch):
        whole = launch(folder="whole")
        with pytest.raises(Interrupted):
            session(plugins=[toys.StopAt(2)]).run()
        made = session()
        made.resume = True
        made.run()
        ran = launch()
        assert ran.notes == whole.notes
        assert same.bits(ran.weights, whole.weights)


def test_a_clock_that_jumps_changes_nothing(session, launch, monkeypatch, same):
    """Backwards by years, in the middle of the run: times in the log are for people."""
    whole = launch(folder="whole")

    def jumps(folder):
        past = datetime(1970, 1, 2, tzinfo=UTC)
        monkeypatch.setattr(
            event_log, "datetime", SimpleNamespace(now=lambda _: past, fromisoformat=datetime.fromisoformat)
        )

    result = session(plugins=[At(3, jumps)]).run()
    (end,) = [r.event for r in read(result.folder / "events.jsonl") if isinstance(r.event, StageFinished)]
    assert 0 <= end.seconds < 600
    assert same.bits(load_file(result.student / "model.safetensors"), whole.weights)


def test_rows_longer_than_the_model_allows_are_reported_with_the_fix(tmp_path):
    tiny(tmp_path / "teacher", layers=1, labels=["x", "y"])
    text = " ".join("abc" * 100)
    (tmp_path / "rows.csv").write_text(f"text,label\na,x\n{text},y\n")
    spec = """\
kdspec: 1
name: long
tasks: {t: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label, max_length: 900}}}
models: {teacher: {transformers: {path: ./teacher}}}
stages: {s: {distiller: {supervised: {model: teacher}}, training: {steps: 1, batch_size: 2}}}
"""
    found = refused(lambda: run(spec, tmp_path / "runs", folder=tmp_path))
    assert found.code == "KD405"
    assert found.message == "row 2 of `train` has 302 tokens, and model `teacher` has 66 positions"
    assert found.help == "set `max_length: 66`; longer rows are truncated"


@pytest.mark.parametrize("rows", [1, 2])
def test_very_few_rows_are_enough(rows, launch):
    ran = launch(f"tasks.rows.tensors.data.ragged={{train: {rows}}}")
    assert [step.rows for step in ran.of(StepDone)] == [rows, rows]
