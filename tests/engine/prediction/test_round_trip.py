"""A file of predictions as a recorded teacher: the student of the live one, bit for bit."""

from __future__ import annotations

import json

import pytest
from headed_models import headed
from safetensors.torch import load_file

from kdspec.cli import main
from kdspec.testing import run, tiny

SPEC = """\
kdspec: 1
name: NAME
tasks: {t: {TASK}}
models: {teacher: {TEACHER}, student: {transformers: {path: student}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: LOSS, TEMPERATURE}}}
    training: {epochs: 2, batch_size: 8, evaluate: null, log_every: 1, teacher_cache: {use: on, folder: caches}}
"""
LIVE, LOGITS = "transformers: {path: teacher}", "recorded: {logits: logits}"
LETTERS = ("a", "bc", "def", "ghij", "klmno", "pq", "r", "stu", "vwxyz")
CLASSIFIER = "AutoModelForSequenceClassification"
CASES = {
    "classes": (
        CLASSIFIER, {"labels": ["x", "y", "z"]},
        "sequence_classification: {data: {json: {train: FILE}}, text: text, label: label, labels: [x, y, z]}",
        "kl", "temperature: 3", lambda n: {"label": "xyz"[n % 3]},
    ),
    "labels": (
        CLASSIFIER, {"labels": ["x", "y"], "problem_type": "multi_label_classification"},
        "multi_label: {data: {json: {train: FILE}}, text: text, label: label, labels: [x, y]}",
        "bce", "temperature: 2", lambda n: {"label": [["x"], [], ["x", "y"]][n % 3]},
    ),
    "number": (
        CLASSIFIER, {"num_labels": 1, "problem_type": "regression"},
        "regression: {data: {json: {train: FILE}}, text: text, label: label}",
        "mse", "temperature: 1", lambda n: {"label": n / 7},
    ),
    "tags": (
        "AutoModelForTokenClassification", {"labels": ["O", "B-X", "I-X"]},
        "token_classification: {data: {json: {train: FILE}}, labels: [O, B-X, I-X]}",
        "kl", "temperature: 2", lambda n: {"tags": ["O"] * (2 + n * 7 % 8)},
    ),
}  # fmt: skip


def _spec(name, case, teacher, file):
    _, _, task, loss, temperature, _ = CASES[case]
    text = SPEC.replace("NAME", name).replace("TASK", task.replace("FILE", file)).replace("TEACHER", teacher)
    return text.replace("LOSS", loss).replace("TEMPERATURE", temperature)


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_teacher_makes_the_student_of_the_live_one(case, tmp_path, monkeypatch):
    """The labels are the teacher's, since one that is no better than chance is refused."""
    auto, options, *_, label = CASES[case]
    monkeypatch.chdir(tmp_path)
    words = [[*LETTERS[: 1 + n * 7 % 8], str(n)] for n in range(70)]
    rows = [{"text": " ".join(each), "tokens": each, **label(n)} for n, each in enumerate(words)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    headed(tmp_path / "teacher", auto, seed=3, **options)
    tiny(tmp_path / "student", layers=1, seed=5)
    text = [] if case == "tags" else ["--text", "text"]
    assert main(["predict", "teacher", "--data", "rows.jsonl", *text, "-o", "said.jsonl"]) == 0
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    key = "tags" if case == "tags" else "label"
    (tmp_path / "said.jsonl").write_text("".join(json.dumps({**row, key: row["answer"]}) + "\n" for row in said))
    live = run(_spec("live", case, LIVE, "said.jsonl"), tmp_path / "runs", folder=tmp_path)
    recorded = run(_spec("recorded", case, LOGITS, "said.jsonl"), tmp_path / "runs", folder=tmp_path)
    one, two = (load_file(each.student / "model.safetensors") for each in (live, recorded))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)
    start = load_file(tmp_path / "student" / "model.safetensors")
    assert any(
        not one[name].equal(start[name.removeprefix("bert.")]) for name in one if name.removeprefix("bert.") in start
    )
