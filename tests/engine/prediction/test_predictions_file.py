"""Files of predictions: complete or absent, wherever a start was killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
import torch
from headed_models import headed

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.prediction import predictions_file
from kdspec.engine.prediction.prediction import Prediction, Predictor
from kdspec.engine.prediction.predictions_file import beside, check, kept_beside, write
from kdspec.engine.teacher_cache import samples
from kdspec.testing import plan, registry

KILLS = 6
SPEC = """\
kdspec: 1
name: r
tasks: {t: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label, labels: [a, b]}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {like: teacher}}}
stages: {distil: {distiller: {general: {teacher: teacher, student: student}}, training: {epochs: 1}}}
"""


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """Writes the predictions of a model to a file."""
    import datasets

    monkeypatch.setattr(samples, "ROWS", 2)  # many blocks
    rows = [{"text": " ".join("abcdefgh"[: 1 + n * 5 % 8]) + f" {n}", "label": "ab"[n % 2]} for n in range(80)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    headed(tmp_path / "teacher", "AutoModelForSequenceClassification", ["a", "b"])
    made = plan(SPEC, registry(), folder=tmp_path)
    table = datasets.Dataset.from_list(rows)

    def work(file):
        with beside(file) as folder:
            prediction = Prediction(
                predictor=Predictor(plan=made, model="teacher", task="t", trained={}), rows=table, file="rows.jsonl",
                folder=folder, device=torch.device("cpu"), warn=pytest.fail,
            )  # fmt: skip
            for _ in prediction.fill():
                pass
            number = write(prediction, file)
            prediction.close()
        return number

    return work


def _start(predict, file):
    """A forked process that predicts."""
    child = os.fork()
    if not child:
        code = 9
        try:
            predict(file)
            code = 0
        finally:
            os._exit(code)
    return child


def test_killed_at_any_moment_and_started_again_it_has_the_same_bytes(predict, tmp_path):
    whole, file = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    began = time.perf_counter()
    assert os.waitpid(_start(predict, whole), 0)[1] == 0
    duration = time.perf_counter() - began
    expected, dice, kills, files = whole.read_bytes(), random.Random(0), 0, 0
    assert len(expected.splitlines()) == 80
    while kills < KILLS:
        child = _start(predict, file)
        time.sleep(dice.uniform(0.1, 0.9) * duration)
        done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            kills += 1
        else:
            assert status == 0
        if file.exists():
            files += 1
            assert file.read_bytes() == expected
            file.unlink()
    child = _start(predict, file)
    assert os.waitpid(child, 0)[1] == 0
    assert file.read_bytes() == expected
    assert not kept_beside(file).exists()


def test_what_is_kept_is_left_if_it_cannot_be_written(predict, tmp_path, monkeypatch):
    file = tmp_path / "out.jsonl"

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(predictions_file, "flush", full)
        with pytest.raises(FindingError, match="no space left on device"):
            predict(file)
    assert not file.exists()
    assert kept_beside(file).is_dir()
    assert predict(file) == 80
    assert not kept_beside(file).exists()


def test_two_processes_do_not_write_one_file(tmp_path):
    file = tmp_path / "out.jsonl"
    with beside(file), pytest.raises(FindingError, match="KD505"), beside(file):
        pytest.fail("it is locked")


def test_no_file_is_replaced(tmp_path):
    file = tmp_path / "out.jsonl"
    check(file)
    file.touch()
    with pytest.raises(FindingError, match="exists already"):
        check(file)
    with pytest.raises(FindingError, match=r"cannot be written: `out.jsonl` is a file"):
        check(file / "below" / "out.jsonl")


def test_the_folder_of_the_file_is_made(tmp_path):
    file = tmp_path / "new" / "folder" / "out.jsonl"
    check(file)
    assert not file.parent.exists()
    with beside(file):
        assert file.parent.is_dir()
