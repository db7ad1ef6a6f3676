"""Where the classes of a head are found."""

from __future__ import annotations

import json

import pytest

from kdspec.engine.prediction.class_names import heads, saved_labels
from kdspec.testing import plan, registry, tiny

SPEC = """\
kdspec: 1
name: r
tasks: {t: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {like: teacher}}}
stages: {distil: {distiller: {general: {teacher: teacher, student: student}}, training: {epochs: 1}}}
"""


CLASSIFIER = ["BertForSequenceClassification"]


@pytest.fixture
def made(tmp_path):
    tiny(tmp_path / "teacher")
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    return plan(SPEC, registry(), folder=tmp_path)


def _saved(folder, configuration):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(configuration))
    return folder


def test_in_the_files_of_a_trained_model_without_reading_rows(made, tmp_path):
    (tmp_path / "rows.jsonl").unlink()
    folder = _saved(tmp_path / "saved", {"architectures": CLASSIFIER, "id2label": {"0": "p", "1": "q"}})
    assert heads(made, "student", {"student": folder})["t"].labels == ("p", "q")
    # A teacher has the head of the same task.
    assert heads(made, "teacher", {"student": folder})["t"].labels == ("p", "q")


def test_else_in_the_rows(made):
    assert heads(made, "teacher", {})["t"].labels == ("x", "y")


def test_of_a_folder(tmp_path):
    assert saved_labels(_saved(tmp_path / "network", {"network": "bigru", "labels": ["a", "b"]})) == ("a", "b")
    unnamed = {"architectures": CLASSIFIER, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}
    assert saved_labels(_saved(tmp_path / "unnamed", unnamed)) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert saved_labels(_saved(tmp_path / "usual", {"architectures": CLASSIFIER})) == ("LABEL_0", "LABEL_1")
    assert saved_labels(_saved(tmp_path / "body", {"architectures": ["BertModel"]})) == ()
    assert saved_labels(tmp_path / "none") == ()
