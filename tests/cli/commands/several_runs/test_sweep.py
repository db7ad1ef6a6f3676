"""`kdspec sweep`: its options, what it checks before the first run, its result, and a stop and resume of real runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdspec.sweep import sweep as module
from kdspec.sweep.child_run import ChildCommand, ChildRun
from kdspec.testing import tiny

TEMPERATURE = "stages.distil.distiller.general.soft_labels.temperature"
FOLDER = Path("runs/tiny-sweep")


class Finished:
    """Stands for a process that has ended."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code


@pytest.fixture
def children(monkeypatch, folder_of_run):
    """Takes the place of the processes: a run ends at once, with the accuracy of `accuracy`, or fails."""
    monkeypatch.setattr(module, "_POLL", 0)
    started = []

    def install(accuracy=lambda run: 0.5, fails=()):
        def start(self, run, slot, threads):
            started.append(run.name)
            output = self.folder / "output" / f"{run.name}.txt"
            output.parent.mkdir(exist_ok=True)
            output.write_text("error[KD501]: the loss is not finite\n")
            if run.name in fails:
                return ChildRun(run, Finished(3), output, slot)
            values = [float(text) for text in run.point.values.values() if text.replace(".", "").isdigit()]
            folder = folder_of_run(
                run.name,
                temperature=(values or [2.0])[0],
                seed=run.seed,
                accuracy=accuracy(run),
                within=str(self.folder),
            )
            (folder / "student").mkdir()
            return ChildRun(run, Finished(0), output, slot)

        monkeypatch.setattr(ChildCommand, "start", start)
        return started

    return install


def test_runs_print_as_much_as_the_sweep(kdspec, spec, children, monkeypatch):
    spec()
    children()
    given = []
    start = ChildCommand.start
    monkeypatch.setattr(ChildCommand, "start", lambda self, *of: given.append(self.words(of[0])) or start(self, *of))
    detailed = kdspec("--verbose", "sweep", "spec.yaml", "--seeds", "1")
    assert detailed.code == 0, detailed.err
    assert f"its output is in {FOLDER}/output/seed-" in detailed.err
    assert kdspec("sweep", "spec.yaml", "--seeds", "3").code == 0
    assert ["--verbose" in words for words in given] == [True, False, False]


def test_the_table_the_page_and_the_best_student(kdspec, spec, children):
    spec()
    started = children(lambda run: 0.9 if "temperature-4" in run.name else 0.5 + run.seed / 100)
    outcome = kdspec("sweep", "spec.yaml", "--grid", f"{TEMPERATURE}=2,4", "--seeds", "1,2")
    assert outcome.code == 0, outcome.err
    assert started == [f"temperature-{t}_seed-{seed}" for seed in (1, 2) for t in (2, 4)]
    assert f"4 runs in {FOLDER}, 0 of them finished" in outcome.err
    assert "temperature 4 (best)" in outcome.out
    assert "0.5150 ± 0.0071" in outcome.out
    assert f"student  {FOLDER}/temperature-4_seed-1/student (its best seed by validation)" in outcome.out
    assert f"page     {FOLDER}/comparison.html" in outcome.out
    page = (FOLDER / "comparison.html").read_text(encoding="utf-8")
    assert "Sweep of tiny" in page
    assert "by setting" in page


def test_the_same_command_has_nothing_to_do_and_more_values_are_added(kdspec, spec, children):
    spec()
    started = children()
    grid = ("sweep", "spec.yaml", "--grid")
    kdspec(*grid, f"{TEMPERATURE}=2,4")
    assert kdspec(*grid, f"{TEMPERATURE}=4.0,2").code == 0
    assert len(started) == 2
    outcome = kdspec(*grid, f"{TEMPERATURE}=2,4,8")
    assert outcome.code == 0, outcome.err
    assert started[2:] == ["temperature-8_seed-0"]
    lacking = kdspec(*grid, f"{TEMPERATURE}=8,16")
    assert lacking.code == 1
    assert "error[KD509]" in lacking.err
    note = f"`{TEMPERATURE}` had the values 2, 4, 8; this command lacks 2, 4"
    assert note in " ".join(lacking.err.split())
    assert len(started) == 3


def test_another_spec_is_refused(kdspec, spec, children):
    spec()
    started = children()
    assert kdspec("sweep", "spec.yaml", "--seeds", "1").code == 0
    changed = kdspec("sweep", "spec.yaml", "--seeds", "1", "--set", "stages.distil.training.batch_size=7")
    assert changed.code == 1
    assert "`stages.distil.training.batch_size` was" in changed.err
    assert len(started) == 1


def test_a_wrong_value_is_shown_at_its_place_before_the_first_run(kdspec, spec, children):
    spec()
    started = children()
    outcome = kdspec(
        "sweep", "spec.yaml", "--grid", f"{TEMPERATURE}=2,-1,warm", "--grid", "stages.distil.training.batch_size=4,0", "--seeds", "2"
    )  # fmt: skip
    assert outcome.code == 1
    assert started == []
    assert not FOLDER.exists()
    for value in ("-1", "warm"):
        assert outcome.err.count(f" | {TEMPERATURE}={value}\n") == 1
    assert " | stages.distil.training.batch_size=0\n" in outcome.err
    assert "3 errors" in outcome.err


def test_a_path_that_no_spec_has_is_refused(kdspec, spec, children):
    spec()
    outcome = kdspec("sweep", "spec.yaml", "--grid", "stages.distil.training.batchsize=4,8")
    assert outcome.code == 1
    assert outcome.err.count("unknown key `batchsize`") == 1
    assert "did you mean `batch_size`?" in outcome.err


def test_a_spec_that_is_not_there_is_named_once(kdspec, spec):
    spec()
    outcome = kdspec("sweep", "spek.yaml", "--seeds", "2")
    assert outcome.code == 2
    assert outcome.err.count("error[KD003]: cannot read `spek.yaml`") == 1
    assert "in run" not in outcome.err
    assert "did you mean `spec.yaml`?" in outcome.err


def test_a_failed_run_is_named_with_the_command_that_tries_it_again(kdspec, spec, children):
    spec()
    children(fails=("temperature-4_seed-0",))
    outcome = kdspec("sweep", "spec.yaml", "--grid", f"{TEMPERATURE}=2,4,8", "--jobs", "2", "--stop-early")
    assert outcome.code == 3
    assert "temperature-4_seed-0: failed: error[KD501]: the loss is not finite" in outcome.err
    assert outcome.err.endswith(
        f"To try them again:\n  kdspec sweep spec.yaml --grid {TEMPERATURE}=2,4,8 --jobs 2 --stop-early\n"
    )
    assert "temperature 8" in outcome.out or "temperature-8" in outcome.out


def test_a_damaged_folder_is_named_beside_the_table_of_the_others(kdspec, spec, children):
    spec()
    children()
    arguments = ("sweep", "spec.yaml", "--grid", f"{TEMPERATURE}=2,4")
    kdspec(*arguments)
    (FOLDER / "temperature-4_seed-0" / "spec.yaml").write_text("kdspec: [1\n")
    outcome = kdspec(*arguments)
    assert outcome.code == 3
    assert "temperature-4_seed-0: failed: runs/tiny-sweep/temperature-4_seed-0/spec.yaml:" in outcome.err
    assert "temperature-2_seed-0" in outcome.out


def test_a_sample_is_drawn_and_checked_before_the_first_run(kdspec, spec, children):
    spec()
    started = children()
    arguments = ("sweep", "spec.yaml", "--range", f"{TEMPERATURE}=1.0..8.0", "--seeds", "1,2", "--sample")
    outcome = kdspec(*arguments, "3")
    assert outcome.code == 0, outcome.err
    assert len(started) == 6
    record = json.loads((FOLDER / "sweep.json").read_text())
    values = [float(point["values"][TEMPERATURE]) for point in record["sampled"]]
    assert all(1 <= value <= 8 for value in values)
    assert kdspec(*arguments, "4").code == 0
    assert len(started) == 8
    assert json.loads((FOLDER / "sweep.json").read_text())["sampled"][:3] == record["sampled"]


def test_a_range_with_a_wrong_end_is_refused_before_the_first_run(kdspec, spec, children):
    spec()
    started = children()
    for sampler in ("random", "tpe"):
        arguments = ("--range", f"{TEMPERATURE}=-2.0..8.0", "--sample", "1", "--sampler", sampler)
        outcome = kdspec("sweep", "spec.yaml", *arguments)
        assert outcome.code == 1
        assert f"{TEMPERATURE}=-2.0" in outcome.err
    assert started == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "a"], "is not of the form PATH=VALUE"),
        (["--grid", "seed=1,2"], "`--seeds` has the seeds"),
        (["--grid", "a=1", "--grid", "a=2"], "given twice"),
        (["--range", "a=1..2"], "needs `--sample`"),
        (["--range", "a=2..1", "--sample", "2"], "is not below"),
        (["--sample", "2"], "there is nothing to sample"),
        (["--sampler", "tpe"], "needs `--sample`"),
        (["--sampler", "tpee", "--sample", "1", "--grid", "a=1"], "did you mean `tpe`?"),
        (["--seeds", "1,1"], "twice"),
        (["--seeds", "zero"], "neither a number of seeds nor a list"),
        (["--jobs", "0"], "greater than or equal to 1"),
        (["--grid", "a=" + ",".join(map(str, range(200))), "--seeds", "100"], "20,000 runs"),
        (["--stop-early", "--set", "stages.distil.training.evaluate=null"], "has `evaluate: null`"),
        (["--device", "cuda:77"], "`cuda:77` cannot be used"),
    ],
)
def test_options_that_cannot_be_used_are_wrong_usage(arguments, message, kdspec, spec, children):
    spec()
    started = children()
    outcome = kdspec("sweep", "spec.yaml", *arguments)
    assert (outcome.code, started) == (2, [])
    assert message in outcome.err


@pytest.mark.parametrize("name", ["-", "plan.json"])
def test_a_spec_that_cannot_be_read_twice_is_refused(name, kdspec, spec):
    spec()
    outcome = kdspec("sweep", name)
    assert outcome.code == 2
    assert "name a YAML file" in outcome.err


def test_a_folder_of_something_else_is_left_alone(kdspec, spec, children):
    spec()
    FOLDER.mkdir(parents=True)
    (FOLDER / "notes.txt").write_text("mine")
    outcome = kdspec("sweep", "spec.yaml")
    assert outcome.code == 2
    assert "is not the folder of a sweep" in outcome.err
    assert [path.name for path in FOLDER.iterdir()] == ["notes.txt"]


def test_a_spec_that_is_edited_meanwhile_starts_no_more_runs(kdspec, spec, children):
    path = spec()

    def edit(run):
        path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
        return 0.5

    started = children(edit)
    outcome = kdspec("sweep", "spec.yaml", "--seeds", "1,2")
    assert (outcome.code, started) == (3, ["seed-1"])
    assert "seed-2: failed: `spec.yaml` has been changed while the sweep runs" in outcome.err


SPEC = """\
kdspec: 1
name: small
tasks:
  t: {sequence_classification: {data: {csv: {train: rows.csv, validation: rows.csv}}, text: text, label: label}}
models:
  teacher: {transformers: {path: ./teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {temperature: 2}}}
    training: {steps: 800, batch_size: 2, evaluate: {every_steps: 400}, teacher_cache: off}
"""


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_resumes_to_the_same_weights(tmp_path):
    tiny(tmp_path / "teacher", layers=1, width=16)
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"{'ab cd'[i % 4 :]},{'xy'[i % 2]}\n" for i in range(12))
    )
    (tmp_path / "spec.yaml").write_text(SPEC)

    def command(output):
        arguments = [
            "sweep",
            "spec.yaml",
            "--grid",
            f"{TEMPERATURE}=2,4",
            "--seeds",
            "1",
            "--jobs",
            "2",
            "--output",
            output,
        ]
        return [sys.executable, "-m", "kdspec", *arguments]

    def begin(output):
        return subprocess.Popen(command(output), cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ))

    sweep = begin("stopped")
    logs = [tmp_path / "stopped" / "small-sweep" / f"temperature-{t}_seed-0" / "events.jsonl" for t in (2, 4)]
    until = time.monotonic() + 300
    while time.monotonic() < until and not all(log.is_file() and b"StepDone" in log.read_bytes() for log in logs):
        time.sleep(0.1)
    sweep.send_signal(signal.SIGINT)
    _, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 130
    assert f"every run resumes from its last checkpoint:\n  {shlex.join(['kdspec', *command('stopped')[3:]])}" in err
    assert not any(b"RunFinished" in log.read_bytes() for log in logs)
    for output in ("stopped", "whole"):
        done = begin(output)
        _, err = done.communicate(timeout=500)
        assert done.returncode == 0, err
    for t in (2, 4):
        student = Path("small-sweep") / f"temperature-{t}_seed-0" / "student" / "model.safetensors"
        assert (tmp_path / "stopped" / student).read_bytes() == (tmp_path / "whole" / student).read_bytes()
    assert all(b'"resumed_at": ' in log.read_bytes() and log.read_bytes().count(b"RunStarted") == 2 for log in logs)
