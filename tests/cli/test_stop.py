"""A signal to any command, in any phase: one line says what the disk has and how to go on, and the code is the shell's."""

from __future__ import annotations

import os
import signal

import pytest

from kdspec.cli.commands import run as run_command
from kdspec.engine.run import run_folder
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.planning import prepare
from kdspec.rehearsal import rehearse
from kdspec.report import report

BEGINS = "stopped; the run has not begun: the same command starts it"
NOTHING = "stopped; no file is half written: the same command starts again"
PHASES = {
    "reading a spec": (("validate", "spec.yaml"), prepare, "prepare", NOTHING),
    "rehearsing a plan": (("plan", "spec.yaml"), rehearse, "rehearse", NOTHING),
    "reading the spec of a run": (("run", "spec.yaml"), prepare, "prepare", BEGINS),
    "rehearsing a run": (("run", "spec.yaml"), rehearse, "rehearse", BEGINS),
}


@pytest.fixture(autouse=True)
def usual_handlers():
    """The suite may itself run where interrupts are ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    for number, handler in before.items():
        signal.signal(number, handler)


def stopping(monkeypatch, owner, name, number=signal.SIGTERM):
    before = getattr(owner, name)

    def function(*arguments, **options):
        os.kill(os.getpid(), number)
        return before(*arguments, **options)

    monkeypatch.setattr(owner, name, function)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("phase", PHASES)
def test_it_is_heard_and_told_in_one_line(phase, number, code, kdspec, spec, monkeypatch):
    spec()
    arguments, owner, name, line = PHASES[phase]
    stopping(monkeypatch, owner, name, number)
    outcome = kdspec(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.splitlines()[-1].startswith(line)
    assert "Traceback" not in outcome.err


SPEC = """\
kdspec: 1
name: tiny
tasks: {texts: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}}
models: {teacher: {transformers: {path: ./tiny}}, student: {transformers: {path: ./tiny}}}
stages:
  only:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 1, batch_size: 4, evaluate: null, teacher_cache: {use: on, folder: caches}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A spec with its rows and a tiny model, in the working folder."""
    from kdspec.testing import tiny

    monkeypatch.chdir(tmp_path)
    tiny(tmp_path / "tiny", layers=1)
    (tmp_path / "rows.csv").write_text("text,label\na b,x\nc,y\nd e f,x\ng,y\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_the_rows_of_a_cache_that_was_being_filled_are_kept(kdspec, folder, monkeypatch):
    with monkeypatch.context() as patched:
        stopping(patched, TeacherCache, "fill")
        outcome = kdspec("cache", "spec.yaml", "--device", "cpu")
    assert outcome.code == 143
    assert "stopped; the rows that were computed are kept: the same command computes the others" in outcome.err
    assert kdspec("cache", "spec.yaml", "--device", "cpu").code == 0


@pytest.mark.slow
def test_measuring_ends_at_once_too(kdspec, folder, monkeypatch):
    from kdspec.engine.evaluation import benchmark

    assert kdspec("run", "spec.yaml", "--device", "cpu").code == 0
    stopping(monkeypatch, benchmark, "latency")
    outcome = kdspec("bench", "runs/tiny", "--device", "cpu", "--rounds", "1")
    assert (outcome.code, outcome.out) == (143, "")
    assert outcome.err.endswith(f"{NOTHING}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (
            run_folder.RunFolder,
            "keep_table",
            "all models are trained and compared: the same command writes what is missing",
        ),
        (
            report,
            "write",
            "the run is finished, but for its report: the same command writes it, in runs/tiny:\n  kdspec run",
        ),
        (run_command, "_show_result", "the run is finished, in runs/tiny\n"),
    ],
)
def test_after_the_training_it_says_what_is_left(owner, name, told, kdspec, folder, monkeypatch):
    with monkeypatch.context() as patched:
        stopping(patched, owner, name)
        outcome = kdspec("run", "spec.yaml", "--device", "cpu")
    assert outcome.code == 143
    assert f"stopped; {told}" in outcome.err
    assert kdspec("run", "spec.yaml", "--device", "cpu").code == 0
    assert (folder / "runs" / "tiny" / "report.html").is_file()
    assert (folder / "runs" / "tiny" / "table.json").is_file()
