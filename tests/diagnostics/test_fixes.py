"""`kdspec validate --fix` on thirty specs, each with one slip: the good spec comes back, letter by letter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kdspec.cli import main

TINY = Path(__file__).parent.parent / "data" / "tiny"
GOOD = """\
# A spec with something of everything, in the layout of a person.
kdspec: 1
name: good
seed: 7
tasks:
  reviews:
    sequence_classification:
      data: {csv: {train: tiny/reviews.csv,  validation: tiny/reviews.csv}} # two spaces
      text: sentence
      label: label
      metric: "accuracy"
models:
  teacher: {transformers: {path: ./tiny/teacher}}
  student:
    transformers:
      like: teacher
      config: {num_hidden_layers: 2}
      initialize: {layers: [2, 5], embeddings: true}
adaptors:
  student: {logits: output.logits, hidden: "output.hidden_states", inputs_mask: batch.attention_mask,
            labels: batch.labels}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 4, weight: linear_decay}
        hard_labels: {weight: 0.5}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: uniform, projection: tanh}
          - feature: hidden
            loss: cos
            layers: {6: 2}   # the last ones
            teacher: teacher
    training:
      epochs: 3
      batch_size: 8
      optimizer: {adamw: {lr: 1.0e-3, weight_decay: 0.01}}
      lr_schedule: {linear: {warmup: 0.1}}
      evaluate: {every_epochs: 0.5, metric: f1}
      shuffle: false
"""
SLIPS = [
    ("seed: 7", "sead: 7"),
    ("seed: 7", 'seed: "7"'),
    ("tasks:", "task:"),
    ("sequence_classification:", "sequence_clasification:"),
    ("validation: tiny", "validaton: tiny"),
    ("text: sentence", "text: sentense"),
    ("label: label", "label: lable"),
    ("like: teacher", "like: techer"),
    ("like: teacher", "lik: teacher"),
    ("num_hidden_layers", "num_hiden_layers"),
    ("embeddings: true", "embeddings: yes"),
    ("inputs_mask: batch", "input_mask: batch"),
    ("logits: output.logits", "logits: outptu.logits"),
    ("        teacher: teacher\n        student: student", "        teacher: teacher\n        student: studnet"),
    ("soft_labels:", "soft_label:"),
    ("temperature: 4", "temprature: 4"),
    ("temperature: 4", "temperature: '4'"),
    ("loss: kl", "loss: kll"),
    ("linear_decay", "linear_dceay"),
    ("feature: hidden, loss", "feature: hiden, loss"),
    ("loss: hidden_mse", "loss: hidden_msee"),
    ("layers: uniform", "layers: unifrom"),
    ("projection: tanh", "projection: tahn"),
    ("            teacher: teacher\n", "            teacher: teachr\n"),
    ("adamw:", "adamww:"),
    ("weight_decay", "weight_decoy"),
    ("every_epochs", "every_epoch"),
    ("metric: f1", "metric: ff1"),
    ("shuffle: false", "shuffle: no"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, tmp_path / "tiny")
    return tmp_path


def test_the_spec_without_a_slip_is_fine(folder, capsys):
    (folder / "spec.yaml").write_text(GOOD, encoding="utf-8")
    assert main(["validate", "--fix", "spec.yaml"]) == 0
    assert capsys.readouterr().out == "spec.yaml: fine\n"


@pytest.mark.parametrize(("right", "wrong"), SLIPS)
def test_a_slip_is_mended_and_nothing_else_changed(right, wrong, folder, capsys):
    assert GOOD.count(right) >= 1
    path = folder / "spec.yaml"
    path.write_text(GOOD.replace(right, wrong, 1), encoding="utf-8")
    assert main(["validate", "--fix", "spec.yaml"]) == 0, capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == GOOD


def test_a_slip_with_two_corrections_that_are_as_likely_is_left(folder, capsys):
    path = folder / "spec.yaml"
    path.write_text(GOOD.replace("adamw:", "adamv:", 1), encoding="utf-8")
    assert main(["validate", "--fix", "spec.yaml"]) == 1
    assert path.read_text(encoding="utf-8") == GOOD.replace("adamw:", "adamv:", 1)
    assert "did you mean `adam` or `adamw`?" in capsys.readouterr().out


def test_slips_of_several_kinds_are_mended_at_once(folder):
    text = GOOD
    for right, wrong in SLIPS[::5]:
        text = text.replace(right, wrong, 1)
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    assert main(["validate", "--fix", "spec.yaml"]) == 0
    assert path.read_text(encoding="utf-8") == GOOD
