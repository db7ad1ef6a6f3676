"""`kdspec run`: what it says, where, and its exit codes; what a session does is tested with the engine."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.evaluation.result_row import ResultRow
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.run import resume_check, session
from kdspec.engine.run.event_log import EventLog
from kdspec.engine.run.session import Result
from kdspec.engine.run.signals import StopSignal
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import RunFinished, RunStarted
from kdspec.report import report

ROW = ResultRow(
    "student", "student", "reviews", "test", {"accuracy": 0.81}, 0.9, "rows with the same class", 4_386_178, 17_500_000, 3.2,
    [], "accuracy", 200, 200,
)  # fmt: skip


class FakeSession:
    """Takes the place of the engine: keeps what it was given, and does what the test says."""

    def __init__(self, plan, registry, **options):
        vars(self).update(options, plan=plan, registry=registry, options=options)
        self.folder = options["output"] / plan.spec.name
        self.kept = {}
        self.reports_failure = True
        self.made.append(self)

    def run(self):
        self.folder.mkdir(parents=True)
        log = EventLog(self.folder / "events.jsonl")
        for event in (RunStarted("tiny", ("distil",), {}, 0, None), RunFinished(1.0, {})):
            log.append(event)
            for answer in self.registry.plugins.call("kdspec_observe", event=event, session=self):
                assert answer.error is None
        self.when_finished()
        student = self.folder / "student"
        student.mkdir()
        (student / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
        (student / "tokenizer_config.json").write_text("{}")
        return Result(self.folder, (ROW,), student, already_finished=self.finished)


@pytest.fixture
def engine(monkeypatch):
    """Puts a fake in the engine's place; `engine(error=...)` makes its run raise."""

    def install(error=None, *, finished=False):
        def run(self):
            if error is not None:
                raise error(self) if callable(error) else error
            return FakeSession.run(self)

        fake = type("Fake", (FakeSession,), {"run": run, "made": [], "finished": finished})
        monkeypatch.setattr(session, "Session", fake)
        return fake

    return install


def test_the_product_is_on_standard_output_and_progress_is_not(kdspec, spec, engine):
    spec()
    engine()
    outcome = kdspec("run", "spec.yaml")
    assert outcome.code == 0
    assert outcome.err == "rehearsing the first step of each stage\nloading models and data\n"
    assert "4.4 M" in outcome.out
    assert "student  runs/tiny/student" in outcome.out
    assert outcome.out.endswith(
        """\
from transformers import pipeline

model = pipeline('text-classification', model='runs/tiny/student')
print(model("some text"))
"""
    )


def test_a_report_lies_in_the_folder(kdspec, spec, engine):
    spec()
    engine()
    assert "report   runs/tiny/report.html" in kdspec("run", "spec.yaml").out
    assert "tiny" in Path("runs/tiny/report.html").read_text(encoding="utf-8")


def test_the_options_reach_the_session(kdspec, spec, engine):
    spec()
    fake = engine()
    arguments = ["--set", "seed=7", "--output", "elsewhere", "--restart", "--device", "cpu"]
    assert kdspec("run", "spec.yaml", *arguments).code == 0
    (made,) = fake.made
    assert isinstance(made.options.pop("stop"), StopSignal)
    assert made.options == {
        "output": Path("elsewhere"),
        "restart": True,
        "resume": False,
        "device": "cpu",
        "backend": "auto",
        "accelerate_config": None,
        "shard_teachers": False,
        "track": (),
    }
    assert made.plan.spec.seed == 7


def raising(_):
    """An error of a component, as the engine raises it."""
    with error_context(("models", "teacher"), "model `teacher`"):
        raise IndexError("index 3 is out of bounds")


@pytest.mark.parametrize("arguments", [("--traceback", "run", "spec.yaml"), ("run", "spec.yaml", "--traceback")])
def test_the_traceback_of_a_component_is_printed_once_on_request(arguments, kdspec, spec, engine):
    spec()
    engine(error=raising)
    err = kdspec("run", "spec.yaml").err
    assert "run again with `--traceback`" in err
    assert "Traceback" not in err
    err = kdspec(*arguments).err
    assert err.count("Traceback (most recent call last)") == 1
    assert 'raise IndexError("index 3 is out of bounds")' in err
    assert "error[KD506]" in err


def test_the_traceback_of_an_error_without_an_exception_behind_it_is_printed_too(kdspec, spec, engine):
    spec()
    engine(error=FindingError(Finding("KD502", "row 3 has no text")))
    outcome = kdspec("run", "spec.yaml", "--traceback")
    assert outcome.err.count("Traceback (most recent call last)") == 1
    assert "in run" in outcome.err


RAISES = """
from kdspec import hookimpl

@hookimpl
def kdspec_check(plan):
    raise KeyError("of the check")
"""


def test_the_traceback_of_a_check_that_raises_is_printed_on_request(kdspec, spec, engine):
    spec()
    engine()
    Path("raises.py").write_text(RAISES)
    for command in (("run", "spec.yaml"), ("validate", "spec.yaml")):
        silent = kdspec(*command, "--plugin", "raises.py")
        assert "run again with `--traceback` to see where" in silent.out + silent.err
        assert "Traceback" not in silent.out + silent.err
        told = kdspec(*command, "--plugin", "raises.py", "--traceback")
        assert 'raise KeyError("of the check")' in told.out + told.err


def test_the_traceback_of_a_plugin_that_does_not_load_is_that_of_the_plugin(kdspec, spec):
    spec()
    Path("broken.py").write_text("x = 1\nraise KeyError(x)\n")
    told = kdspec("validate", "spec.yaml", "--plugin", "broken.py", "--traceback").err
    assert "line 2, in <module>" in told
    assert told.count("Traceback (most recent call last)") == 1


def test_a_plugin_that_does_not_exist_is_no_file(kdspec, spec):
    spec()
    outcome = kdspec("validate", "spec.yaml", "--plugin", "nofile.py")
    assert outcome.code == 2
    assert outcome.err == "error[KD203]: cannot load the plugin `nofile.py`: there is no such file\n"


def test_a_mistake_in_the_spec_keeps_it_from_running(kdspec, spec, engine):
    spec("temperature: 4", "temprature: 4")
    fake = engine()
    outcome = kdspec("run", "spec.yaml")
    assert (outcome.code, outcome.out, fake.made) == (1, "", [])
    assert "error[KD101]" in outcome.err


def test_a_warning_does_not(kdspec, spec, engine):
    spec("layers: uniform", "layers: uniform, weight: 0")
    engine()
    outcome = kdspec("run", "spec.yaml")
    assert outcome.code == 0
    assert "warning[KD305]" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format_", "shown"), [("full", "error[KD501]: a loss"), ("concise", "KD501 a loss"), ("json", '"code": "KD501"')]
)
def test_a_failing_run_is_reported_with_its_place(kdspec, spec, engine, format_, shown):
    spec()

    def error(self):
        return FindingError(Finding("KD501", "a loss", ("stages", "distil"), "here"))

    engine(error)
    outcome = kdspec("run", "spec.yaml", "--format", format_)
    assert (outcome.code, outcome.out) == (3, "")
    assert shown in outcome.err
    assert "spec.yaml" in outcome.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_prints_the_command_that_resumes_it(kdspec, spec, engine, number, code):
    spec(name="my spec.yaml")
    engine(Interrupted(number))
    outcome = kdspec("run", "my spec.yaml", "--set", "seed=7", "--restart", "--output", "out", "--device", "cpu")
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.splitlines() == [
        "rehearsing the first step of each stage",
        "stopped; the run has not begun: the same command starts it, in out/tiny:",
        "  kdspec run 'my spec.yaml' --set seed=7 --output out --device cpu",
    ]


def test_the_command_names_the_plugins(kdspec, spec, engine, tmp_path):
    spec()
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    engine(Interrupted(signal.SIGINT))
    outcome = kdspec("--plugin", "mine.py", "run", "spec.yaml")
    assert outcome.err.endswith("  kdspec run spec.yaml --plugin mine.py\n")


def test_a_finished_run_is_reported_with_its_table(kdspec, spec, engine):
    spec()
    engine(finished=True)
    outcome = kdspec("run", "spec.yaml")
    assert outcome.code == 0
    assert "4.4 M" in outcome.out
    assert outcome.err.endswith("this run is already finished. To start again:\n  kdspec run spec.yaml --restart\n")


def test_a_report_that_cannot_be_made_does_not_fail_the_run(kdspec, spec, engine, monkeypatch):
    spec()
    engine()

    def refuse(made, plugins):
        raise FindingError(Finding("KD508", "the disk is full"))

    monkeypatch.setattr(report, "write", refuse)
    outcome = kdspec("run", "spec.yaml")
    assert outcome.code == 0
    assert "error[KD508]: the disk is full" in outcome.err


@pytest.mark.parametrize("device", ["nonsense", "meta", "cpu:x"])
def test_a_device_that_cannot_be_used_is_wrong_usage(kdspec, spec, engine, device):
    spec()
    fake = engine()
    outcome = kdspec("run", "spec.yaml", "--device", device)
    assert (outcome.code, fake.made) == (2, [])
    assert f"`{device}` cannot be used" in outcome.err


@pytest.mark.slow
def test_a_folder_that_cannot_be_created_is_reported(kdspec, spec):
    spec()
    Path("taken").write_text("", encoding="utf-8")
    outcome = kdspec("run", "spec.yaml", "--output", "taken/runs")
    assert outcome.code == 3
    assert "error[KD508]: cannot write `taken/runs/tiny`" in outcome.err


def test_a_run_is_rehearsed_before_it_begins(kdspec, spec, engine):
    spec("stages:", "adaptors:\n  teacher: {logits: output.logit, hidden: output.hidden_states}\nstages:")
    fake = engine()
    outcome = kdspec("run", "spec.yaml")
    assert (outcome.code, outcome.out, fake.made) == (1, "", [])
    assert "error[KD303]: `logits` of `teacher` is not at its path" in outcome.err


def test_a_run_that_has_done_steps_is_not_rehearsed_again(kdspec, spec, engine, monkeypatch):
    spec()
    engine()
    asked = []
    monkeypatch.setattr(resume_check, "has_trained", lambda plan, folder: asked.append(folder.path) or True)
    assert "rehearsing" not in kdspec("run", "spec.yaml").err
    assert asked == [Path("runs/tiny")]
    Path("runs").rename("earlier")
    assert "rehearsing" in kdspec("run", "spec.yaml", "--restart").err
