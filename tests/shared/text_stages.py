"""Stages on texts of words, with models of the test's own, for what reads rows and models before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
kdspec: 1
name: texts
tasks:
  texts:
    sequence_classification:
      data: {csv: {train: train.csv, validation: validation.csv}}
      text: text
      label: label
models:
  teacher:
    transformers: {path: teacher}
  student:
    transformers: {like: teacher}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: kl, temperature: 2}}
    training: {epochs: 1, batch_size: 4, optimizer: {adamw: {lr: 1.0e-3}}}
"""


def texts(lengths: Sequence[int]) -> list[str]:
    """Texts of so many words, different from one another."""
    return [" ".join(f"w{(7 * row + 3 * at) % 92}" for at in range(length)) for row, length in enumerate(lengths)]


def write(file: Path, rows: Sequence[str]) -> Path:
    """A file of texts with labels of two classes in turn."""
    lines = (f'"{text}",{"ab"[row % 2]}\n' for row, text in enumerate(rows))
    file.write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return file


ROWS = texts((2, 3, 5, 9))


@dataclass(frozen=True)
class TextStage:
    """The first stage of a plan, with its models and rows."""

    plan: Any
    models: Any
    runners: dict[str, Any]
    loader: Any


@pytest.fixture
def text_stage(tmp_path, shared_registry):
    """Builds the models and the training rows of the spec with changes as `--set` has them, and some texts as rows."""
    from kdspec.engine.evaluation.built_tasks import built_tasks
    from kdspec.engine.forward.models import Models
    from kdspec.engine.processes.backend import SingleProcess
    from kdspec.engine.step.build_inputs import StageInputs
    from kdspec.engine.step.build_models import StageModels
    from kdspec.testing import plan

    def made(*sets, rows=ROWS, text=SPEC) -> TextStage:
        for split in ("train", "validation"):
            write(tmp_path / f"{split}.csv", rows)
        planned = plan(text, shared_registry, folder=tmp_path, sets=sets)
        tasks = built_tasks(planned)
        models = Models(planned, {name: task.head for name, task in tasks.items()}, {})
        backend = SingleProcess("cpu")
        stage = planned.stages[0]
        inputs = StageInputs(
            StageModels(planned, stage, models, tasks, backend.device, backend), shared_registry, backend, 1
        )
        of = inputs.by_task["texts"]
        return TextStage(planned, models, {stage.student: of.student, **of.teachers}, of.loader)

    return made
