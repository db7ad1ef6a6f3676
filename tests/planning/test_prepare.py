"""What is found in a document that gives no plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.launch.spec_reading import read_text
from kdspec.registry.registry import load_registry
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: x
tasks:
  one: {sequence_classification: {data: {csv: {train: rows.csv}}, text: bdy, label: label}}
  two: {sequence_classification: {data: {csv: {train: rows.csv}}, text: body, label: label}}
models:
  student: {transformers: {path: ./tiny}}
stages:
  s:
    distiller: {supervised: {model: student, task: one}}
    training: {steps: 1}
"""
COLUMN = ("KD312", "the split `train` has no column `bdy`")


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny(tmp_path / "tiny", layers=1, labels=["x", "y"], seed=1)
    Path("rows.csv").write_text("body,label\na b,x\nc d,y\n")


def found(text):
    read = read_text(text, "spec.yaml", load_registry())
    assert read.plan is None
    return [(each.code, each.message) for each in read.diagnostics]


@pytest.mark.parametrize(
    ("right", "wrong", "code"),
    [
        ("steps: 1}", "steps: 1, lable: 2}", "KD101"),
        ("training:", "trainig:", "KD101"),
        ("steps: 1", "steps: -1", "KD104"),
        ("transformers", "transfomers", "KD201"),
        ("model: student", "model: studnt", "KD204"),
        ("text: body", "txt: body", "KD101"),
        ("text: body", "text: [body, 1]", "KD103"),
        ("text: bdy", "max_length: 0, text: bdy", "KD104"),
    ],
)
def test_a_mistake_elsewhere_does_not_hide_a_missing_column(right, wrong, code):
    assert right in SPEC
    codes = found(SPEC.replace(right, wrong, 1))
    assert COLUMN in codes
    assert code in [each for each, _ in codes]
    assert len(codes) == 2


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("text: bdy, label: label}", "text: bdy, label: label, lable: 1}"),  # perhaps the name of a column
        ("text: bdy", "txt: bdy"),
        (
            "{sequence_classification: {data: {csv: {train: rows.csv}}, text: bdy, label: label}}",
            "sequence_classification",
        ),
        (
            "{sequence_classification: {data: {csv: {train: rows.csv}}, text: bdy, label: label}}",
            "{sequence_classification: }",
        ),
        ("text: bdy", "text: [a, b, bdy]"),
        ("train: rows.csv", "trian: rows.csv"),
        ("train: rows.csv", "train: none.csv"),
        ("tasks:", "taks:"),
        ("  two: ", "  ONE: "),  # one name where case is ignored
    ],
)
def test_a_task_with_a_mistake_of_its_own_is_not_read(right, wrong):
    assert right in SPEC
    assert "KD312" not in [code for code, _ in found(SPEC.replace(right, wrong, 1))]


@pytest.mark.parametrize("text", ["", "1", "[a]", "kdspec: 1", "tasks: 1", "tasks: [a]", "tasks: {one: {}}", "tasks:"])
def test_a_document_without_tasks_has_errors_of_its_shape_alone(text):
    assert {code for code, _ in found(text)} <= {"KD102", "KD103", "KD105"}
