"""Every hook, as a plugin uses it: called, with the arguments that its specification names."""

from __future__ import annotations

import pytest

from kdspec.api import hooks
from kdspec.cli import main
from kdspec.testing import tiny

HOOKS = {name for name in vars(hooks) if name.startswith("kdspec_")}
EVERYTHING = """
from pathlib import Path

from kdspec import Finding, LogitLoss, hookimpl


def called(hook):
    with Path("called.txt").open("a") as file:
        print(hook, file=file)


class Halved(LogitLoss):
    \"\"\"Half the squared difference.\"\"\"

    name = "halved"

    def build(self, context):
        return lambda student, teacher, *, temperature: (student - teacher.detach()).square().mean() / 2


@hookimpl
def kdspec_components():
    called("kdspec_components")
    return [Halved]


@hookimpl
def kdspec_check(plan):
    called("kdspec_check")
    found = plan.stages[0].distiller.name
    return [Finding("everything/seen", f"{plan.spec.name} and {found}", ("name",), severity="warning")]


@hookimpl
def kdspec_observe(event, session):
    called("kdspec_observe")
    with (session.folder / "seen.txt").open("a") as file:
        print(type(event).__name__, file=file)


@hookimpl
def kdspec_report(report):
    called("kdspec_report")
    from kdspec.api.report import Section

    return [Section("Seen", f"<p>{report.name} was here</p>")]


@hookimpl
def kdspec_commands(commands):
    called("kdspec_commands")

    @commands.command("hello")
    def hello() -> None:
        print("hello from everything")
"""
SPEC = """
kdspec: 1
name: seen
tasks:
  reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: halved}}}
    training: {steps: 1, batch_size: 2}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tiny(tmp_path / "tiny")
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "everything.py").write_text(EVERYTHING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_hook_is_called_and_does_what_it_is_for(folder, capsys):
    assert main(["run", "spec.yaml", "--plugin", "everything.py", "--device", "cpu"]) == 0
    assert "warning[everything/seen]: seen and general" in capsys.readouterr().err
    run = folder / "runs" / "seen"
    assert {"RunStarted", "StepDone", "RunFinished"} <= set((run / "seen.txt").read_text().split())
    assert "<p>seen was here</p>" in (run / "report.html").read_text()
    assert main(["hello", "--plugin", "everything.py"]) == 0
    assert capsys.readouterr().out == "hello from everything\n"
    assert set((folder / "called.txt").read_text().split()) == HOOKS
