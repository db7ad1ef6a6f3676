"""Runs of small specs through the real engine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Result, Session
from kdspec.testing import plan, registry

TOYS = Path(__file__).parent / "toys.py"
DISTIL = "stages.distil"
GENERAL = f"{DISTIL}.distiller.general"
TRAINING = f"{DISTIL}.training"

SPEC = """\
kdspec: 1
name: toy
seed: 3
tasks:
  rows:
    tensors: {data: {ragged: {}}, labels: label}
models:
  teacher: {toy: {width: 6, depth: 3}}
  student: {toy: {}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  student:
    logits: output.logits
    hidden: output.hidden
    inputs_mask: batch.mask
    labels: batch.label
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        hard_labels: {weight: 0.5}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {3: 2}}
          - {feature: hidden, loss: mmd, layers: {0: 0}, weight: 0.5}
    training:
      epochs: 2
      batch_size: 2
      accumulate: 2
      optimizer: {adamw: {lr: 0.01}}
      evaluate: null
      log_every: 1
"""


@dataclass(frozen=True)
class Ran:
    """A run that has come to its end."""

    result: Result
    folder: Path

    @property
    def events(self) -> list[Any]:
        return [record.event for record in read(self.folder / "events.jsonl")]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if type(event).__name__ == "Note"]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "student" / "model.safetensors")

    def checkpoint(self, step: int, stage: str = "distil", group: str = "weights") -> dict[str, torch.Tensor]:
        return load_file(self.folder / "checkpoints" / stage / f"step-{step:08d}" / f"{group}.safetensors")


@pytest.fixture(scope="session")
def toys():
    """The module of the plugin, for what tests make of its parts."""
    spec = importlib.util.spec_from_file_location("toys", TOYS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_registry():
    """The built-ins and the toys; making them takes longer than a small run."""
    return registry(TOYS)


@pytest.fixture
def session(tmp_path, shared_registry):
    """Makes a session of the spec with changes as `--set` has them, in a folder by this name, with more plugins."""

    def made(*sets, folder="runs", plugins=(), text=SPEC, restart=False):
        known = registry(TOYS, *plugins) if plugins else shared_registry
        planned = plan(text, known, folder=tmp_path, sets=sets)
        return Session(planned, known, output=tmp_path / folder, restart=restart, device="cpu")

    return made


@pytest.fixture
def launch(session):
    """Runs a session to its end; the arguments are those of `session`."""

    def launched(*sets, **options):
        result = session(*sets, **options).run()
        return Ran(result, result.folder)

    return launched


def close(first, second, tolerance=1e-10):
    """Whether two sets of weights are the same up to rounding."""
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first)


def equal(first, second):
    """Whether two sets of weights are the same to the bit."""
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def same():
    """`same.bits(a, b)`, `same.close(a, b)`."""

    class Same:
        bits = staticmethod(equal)
        close = staticmethod(close)

    return Same
