"""`kdspec export`: the files, the figures, the script without kdspec and torch, and wrong calls."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from exported import WITHOUT, use

from kdspec.testing import run, tiny

SPEC = """\
kdspec: 1
name: fast
tasks:
  texts:
    sequence_classification:
      data: {json: {train: rows.jsonl, test: rows.jsonl}}
      text: text
      label: label
      max_length: 12
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {path: student, tokenizer: teacher}}
  unused: {transformers: {path: teacher}}
stages:
  teach:
    distiller: {supervised: {model: teacher}}
    training: {steps: 1, batch_size: 4, evaluate: null}
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 20, batch_size: 8, evaluate: null, optimizer: {adamw: {lr: 0.02}}}
"""
ROWS = [{"text": " ".join("abcdefgh"[: 1 + n % 8]), "label": ["no", "yes"][n % 2]} for n in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a finished run whose spec lies elsewhere."""
    home = tmp_path_factory.mktemp("home")
    tiny(home / "teacher", layers=2, width=32, seed=1)
    tiny(home / "student", layers=1, seed=2)
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return run(SPEC, home / "runs", folder=home).folder


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """An exported student in both forms, with the figures that the command prints as JSON."""
    place = tmp_path_factory.mktemp("exports") / "student"
    ended = subprocess.run(
        [sys.executable, "-m", "kdspec", "export", str(folder), "--onnx", "--int8", "-o", str(place), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return place, json.loads(ended.stdout)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
class TestTheFolder:
    def test_has_the_files_and_a_description(self, exported):
        place, _ = exported
        files = {"model.onnx", "model-int8.onnx", "tokenizer.json", "config.json", "check.json", "use.py"}
        assert {path.name for path in place.iterdir()} == files
        described = json.loads((place / "config.json").read_text())
        expected = {
            "run": "fast", "model": "student", "task": "sequence_classification", "files": ["model.onnx", "model-int8.onnx"],
            "labels": ["no", "yes"], "outputs": ["logits"], "reads": "text", "max_length": 12,
            "inputs": {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"},
        }  # fmt: skip
        assert {key: described[key] for key in expected} == expected
        assert {"torch", "onnx", "onnxruntime", "kdspec"} <= described["versions"].keys()

    def test_names_no_path_of_this_machine(self, exported, folder):
        for path in exported[0].iterdir():
            content = path.read_bytes()
            assert b"site-packages" not in content, path
            assert str(folder.parent).encode() not in content, path
            assert str(Path(__file__).parents[3]).encode() not in content, path

    def test_the_model_takes_any_number_of_rows_and_tokens(self, exported):
        import onnxruntime

        session = onnxruntime.InferenceSession(str(exported[0] / "model.onnx"))
        assert {tuple(each.shape) for each in session.get_inputs()} == {("rows", "length")}

    def test_the_script_answers_as_predict_does(self, exported, folder, kdspec, here):
        texts = ["a", "a b c d e f g h", "b c", "h " * 40]
        (here / "new.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        outcome = kdspec("predict", str(folder), "--data", "new.jsonl", "-o", "-")
        assert outcome.code == 0, outcome.err
        expected = [json.loads(line) for line in outcome.out.splitlines()]
        lines = use(exported[0], *texts)
        assert [line.split(" ", 2) for line in lines] == [
            [row["answer"], f"{row['confidence']:.4f}", row["text"]] for row in expected
        ]

    def test_the_script_is_short_and_needs_three_packages(self, exported):
        text = (exported[0] / "use.py").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith(('"""', "import", "from"))]
        assert len(lines) <= 12
        assert not any(name in text for name in ("torch", "transformers", "kdspec"))
        assert use(exported[0])  # with its own example

    def test_importing_torch_fails_where_the_script_runs(self, tmp_path):
        (tmp_path / "use.py").write_text(
            "".join(f"try: import {name}\nexcept ImportError: print('{name}')\n" for name in WITHOUT)
        )
        assert use(tmp_path) == list(WITHOUT)


@pytest.mark.slow
class TestTheFigures:
    def test_compare_each_form_with_torch(self, exported, folder):
        _, found = exported
        assert (found["model"], found["task"], found["split"], found["rows"]) == ("student", "texts", "test", 40)
        torch, onnx, int8 = found["forms"]
        assert [form["form"] for form in found["forms"]] == ["torch", "onnx", "int8"]
        (row,) = [row for row in json.loads((folder / "table.json").read_text()) if row["model"] == "student"]
        assert torch["metrics"] == pytest.approx(row["metrics"])
        assert onnx["metrics"] == pytest.approx(torch["metrics"], abs=1e-5)
        assert (torch["difference"], onnx["agreement"]) == ({}, 1)
        assert onnx["difference"]["logits"]["relative"] < 1e-5 < int8["difference"]["logits"]["relative"] < 0.2
        assert int8["agreement"] > 0.8
        assert int8["bytes"] > 0

    def test_have_a_latency_for_each_batch_and_number_of_threads(self, exported):
        forms = exported[1]["forms"]
        work = [[(each["rows"], each["tokens"], each["threads"]) for each in form["timings"]] for form in forms]
        assert work[0] == work[1] == work[2]
        assert {rows for rows, _, _ in work[0]} == {1, 32}
        assert 1 in {threads for _, _, threads in work[0]}
        assert len({tokens for rows, tokens, _ in work[0] if rows == 1}) == 2
        assert all(each["milliseconds"] > 0 for form in forms for each in form["timings"])

    def test_are_kept_beside_the_files(self, exported):
        place, found = exported
        assert json.loads((place / "check.json").read_text()) == {k: v for k, v in found.items() if k != "folder"}


@pytest.mark.slow
def test_the_default_place_is_in_the_run_and_its_report_names_it(kdspec, folder):
    outcome = kdspec("export", str(folder), "--onnx")
    assert outcome.code == 0, outcome.err
    place = folder / "onnx" / "student"
    assert {path.name for path in place.iterdir()} >= {"model.onnx", "use.py"}
    assert not (place / "model-int8.onnx").exists()
    assert (place / "use.py").read_text().strip() in outcome.out
    assert "40 test rows" in outcome.out
    assert "same answers" in outcome.out
    again = kdspec("export", str(folder), "--onnx")
    assert (again.code, "exists already" in again.err, "KD508" in again.err) == (2, True, True)
    assert kdspec("report", str(folder)).code == 0
    page = (folder / "report.html").read_text()
    assert "onnx/student" in page
    assert "model.onnx" in page


@pytest.mark.slow
def test_another_model_of_the_run(kdspec, folder, here):
    outcome = kdspec("export", str(folder), "--onnx", "--model", "teacher", "-o", "its/teacher", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads((here / "its" / "teacher" / "config.json").read_text())["model"] == "teacher"
    assert json.loads(outcome.out)["forms"][1]["agreement"] == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "to which format? Add `--onnx`"),
        (("--int8",), 2, "`--int8` is a second ONNX file: add `--onnx`"),
        (("--onnx", "--model", "studnet"), 2, "the run has no model `studnet`; did you mean `student`?"),
        (("--onnx", "--task", "text"), 2, "`student` has no task `text`; did you mean `texts`?"),
        (("--onnx", "--model", "unused", "-o", "new"), 3, "`unused` has no trained head for `sequence_classification`"),
        (("--onnx", "-o", "."), 2, "exists already, and an export replaces nothing"),
    ],
)
def test_a_wrong_call_is_refused_with_what_helps(kdspec, folder, here, options, code, message):
    outcome = kdspec("export", str(folder), *options)
    assert (outcome.code, message in " ".join(outcome.err.split())) == (code, True), outcome.err
    assert [*here.iterdir()] == []


def test_a_run_that_has_not_finished_is_refused(kdspec, tmp_path):
    outcome = kdspec("export", str(tmp_path), "--onnx")
    assert (outcome.code, "is not the folder of a run" in outcome.err) == (2, True)
    (tmp_path / "events.jsonl").touch()
    outcome = kdspec("export", str(tmp_path), "--onnx")
    assert (outcome.code, "has not finished" in outcome.err) == (2, True)


def test_a_missing_package_is_found_before_anything_is_read(kdspec, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "onnxscript" else there(name, *more)
    )
    outcome = kdspec("export", str(tmp_path / "no-run"), "--onnx")
    assert outcome.code == 2
    assert "error[KD530]: ONNX needs `onnxscript`, which is not installed" in outcome.err
    assert "pip install 'kdspec[onnx]'" in outcome.err
