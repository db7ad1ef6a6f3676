"""`kdspec bench`: latency, throughput and memory of the models of a run."""

from __future__ import annotations

import json

import pytest

from kdspec.testing import run, tiny

SPEC = """\
kdspec: 1
name: fast
tasks: {texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student, tokenizer: teacher}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 1, batch_size: 4, evaluate: null}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run whose spec lies elsewhere."""
    home = tmp_path_factory.mktemp("home")
    tiny(home / "teacher", layers=3, width=48, seed=1)
    tiny(home / "student", layers=1, width=12, seed=2)
    rows = [{"text": " ".join("abcdefgh"[: 1 + i % 8]), "label": "ab"[i % 2]} for i in range(11)]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run(SPEC, home / "runs", folder=home).folder


def test_the_figures_as_data(kdspec, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = kdspec("bench", str(folder), "--batch-size", "4", "--rounds", "1", "--json", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert (found["device"], found["batch_size"]) == ("cpu", 4)
    teacher, student = found["models"]
    assert (teacher["role"], student["role"], student["split"]) == ("teacher", "student", "train")
    for key in ("parameters", "latency_ms", "weight_bytes", "peak_bytes"):
        assert teacher[key] > student[key] > 0
    for row in (teacher, student):
        assert row["weight_bytes"] >= 4 * row["parameters"]
        assert row["peak_bytes"] > row["weight_bytes"]
        # Rows have between three and ten tokens, those around them included.
        assert 3 < row["tokens_per_second"] / row["rows_per_second"] < 11


def test_the_table_has_each_model_beside_its_teacher(kdspec, folder):
    outcome = kdspec("bench", str(folder), "--rounds", "1", "--device", "cpu")
    lines = {line[:18].strip(): line for line in outcome.out.splitlines()}
    assert {
        "role",
        "parameters",
        "latency",
        "rows per second",
        "tokens per second",
        "weights",
        "peak memory",
    } <= lines.keys()
    assert lines["parameters"].count("×") == 1  # noqa: RUF001 - a multiplication sign is one
    assert "train rows" in outcome.out
    assert "32 rows of similar length" in outcome.out


def test_a_run_that_has_not_finished_is_wrong_usage(kdspec, folder, tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    outcome = kdspec("bench", str(tmp_path))
    assert outcome.code == 2
    assert "error[KD003]" in outcome.err
    assert "is not the folder of a run" in outcome.err
    (tmp_path / "events.jsonl").touch()
    outcome = kdspec("bench", str(tmp_path))
    assert (outcome.code, "has not finished" in outcome.err) == (2, True)
