"""Names in other scripts than Latin, from the text to the report, with everything that makes files of them."""

from __future__ import annotations

import json
import os
import signal

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdspec import hookimpl
from kdspec.engine.run.session import Session
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import StageFinished, StepDone
from kdspec.report import report
from kdspec.testing import plan, registry, tiny

SPEC = """\
kdspec: 1
name: тест
tasks:
  отзывы.v1:
    sequence_classification:
      data: {csv: {train: train.csv, validation: train.csv}}
      text: text
      label: label
  标签:
    sequence_classification:
      data: {csv: {train: train.csv, validation: train.csv}}
      text: text
      label: label
models:
  учитель: {transformers: {path: teacher}}
  老师: {transformers: {path: teacher}}
  学生: {transformers: {like: учитель, config: {num_hidden_layers: 1}}}
stages:
  обучение:
    distiller: {supervised: {model: учитель, task: отзывы.v1}}
    training: {epochs: 1, batch_size: 4}
  微调:
    distiller: {supervised: {model: 老师, task: 标签}}
    training: {epochs: 1, batch_size: 4}
  蒸馏:
    distiller:
      multi_task:
        student: 学生
        tasks:
          отзывы.v1:
            teacher: учитель
            soft_labels: {loss: kl, temperature: 2}
            matches: [{feature: hidden, loss: hidden_mse, layers: {2: 1}}]
          标签: {teacher: 老师, soft_labels: {loss: kl, temperature: 2}}
    training: {steps: 4, batch_size: 4, checkpoint: {every_steps: 1}, log_every: 1, teacher_cache: "on"}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    tiny(tmp_path / "teacher")
    rows = [f"{'good' if number % 2 else 'bad'} film {number},{'好' if number % 2 else 'плохо'}" for number in range(8)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_run_whose_names_are_cyrillic_and_chinese(folder):
    class Stops:
        __name__ = "stops"

        @hookimpl
        def kdspec_observe(self, event, session):
            if isinstance(event, StepDone) and (event.stage, event.step) == ("蒸馏", 2):
                os.kill(os.getpid(), signal.SIGINT)

    known = registry()
    made = plan(SPEC, known, folder=folder)
    with pytest.raises(Interrupted):
        Session(made, registry(Stops()), output=folder / "stopped", device="cpu").run()
    resumed = Session(made, known, output=folder / "stopped", device="cpu").run()
    assert [event.stage for event in resumed.stages] == ["蒸馏"]
    whole = Session(made, known, output=folder / "whole", device="cpu").run()
    assert [event.stage for event in whole.stages if isinstance(event, StageFinished)] == ["обучение", "微调", "蒸馏"]
    assert whole.folder.name == "тест"
    for task in ("отзывы.v1", "标签"):
        first, second = (load_file(run.student / task / "model.safetensors") for run in (resumed, whole))
        assert all((first[name] == second[name]).all() for name in first)
        assert json.loads((whole.student / task / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 1
    assert {row.model for row in whole.table} >= {"学生"}
    assert (whole.folder / "models" / "учитель" / "model.safetensors").is_file()
    page = report.write(report.read(whole.folder), known.plugins).read_text(encoding="utf-8")
    assert all(name in page for name in ("тест", "学生", "老师", "蒸馏", "отзывы.v1"))
    events = EventAccumulator(str(whole.folder / "tensorboard")).Reload()
    assert "蒸馏/loss" in events.Tags()["scalars"]
