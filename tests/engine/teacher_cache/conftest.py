"""Texts of differing lengths, small transformers models, and runs of them with and without a cache."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdspec.engine.run.event_log import read
from kdspec.events import CacheState, Note, StepDone
from kdspec.testing import run, tiny

ROWS = 41

SPEC = """\
kdspec: 1
name: cached
seed: 5
tasks: {texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student, tokenizer: teacher}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {2: 1}}
          - {feature: hidden, loss: mmd, layers: {0: 0}}
          - {feature: attention, loss: attention_mse, layers: {1: 0}}
    training: {epochs: 2, batch_size: 8, evaluate: null, log_every: 1, teacher_cache: {use: on, folder: caches}}
"""


@dataclass(frozen=True)
class Ran:
    """A run that has come to its end."""

    folder: Path

    def of(self, kind: type) -> list[Any]:
        return [record.event for record in read(self.folder / "events.jsonl") if isinstance(record.event, kind)]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.of(StepDone)]

    @property
    def warnings(self) -> list[str]:
        told = [event.text for event in self.of(Note) if event.level == "warning"]
        return [text for text in told if "no stage trains it" not in text]

    @property
    def cache(self) -> CacheState:
        """At the end."""
        return self.of(CacheState)[-1]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "student" / "model.safetensors")


def write_rows(path: Path, count: int = ROWS) -> None:
    rows = [
        {"text": " ".join("abcdefghijkl"[: 1 + (7 * i) % 11]) + f" {i}", "label": "ab"[i % 2]} for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with a teacher of three layers and a student of one."""
    folder = tmp_path_factory.mktemp("models")
    tiny(folder / "teacher", layers=3, width=24, seed=1)
    tiny(folder / "student", layers=1, width=12, seed=2)
    return folder


@pytest.fixture
def home(tmp_path, models):
    """A folder for specs, with rows and models."""
    write_rows(tmp_path / "rows.jsonl")
    for name in ("teacher", "student"):
        (tmp_path / name).symlink_to(models / name)
    return tmp_path


@pytest.fixture
def launch(home):
    """Runs the spec with changes to its end, in a folder by this name."""

    def launched(*sets: str, folder: str = "runs", text: str = SPEC, plugins: tuple[Any, ...] = ()) -> Ran:
        return Ran(run(text, home / folder, *plugins, folder=home, sets=sets).folder)

    return launched


@pytest.fixture
def spec_text():
    """The spec, for another process."""
    return SPEC
