"""`kdspec plan`: what is shown, in which form, and what it costs to start."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from kdspec.source.document import parse


def test_a_plan_is_shown_on_standard_output(kdspec, spec):
    spec()
    outcome = kdspec("plan", "spec.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    assert "hidden.hidden_mse.3-1   hidden_mse   =hidden 3 → 1" in outcome.out
    assert "~ default" in outcome.out


def test_json_has_its_format(kdspec, spec):
    spec()
    data = json.loads(kdspec("plan", "--json", "spec.yaml").out)
    assert (data["format"], data["name"]) == (1, "tiny")


@pytest.mark.slow
def test_the_resolved_spec_has_the_same_plan(kdspec, spec):
    path = spec()
    resolved = kdspec("plan", "--resolved", "spec.yaml")
    assert resolved.code == 0
    assert parse(resolved.out, "spec").data["stages"]["distil"]["training"]["batch_size"] == 32
    first = json.loads(kdspec("plan", "--json", "spec.yaml").out)
    path.write_text(resolved.out, encoding="utf-8")
    second = json.loads(kdspec("plan", "--json", "spec.yaml").out)
    assert values(second) == values(first)
    assert kdspec("plan", "--resolved", "spec.yaml").out == resolved.out


def values(data):
    """A plan without the origins, which are what a resolved spec changes."""
    if isinstance(data, dict):
        return {key: values(item) for key, item in data.items() if key != "origin"}
    return [values(item) for item in data] if isinstance(data, list) else data


def test_what_is_set_is_in_the_plan(kdspec, spec):
    spec()
    assert "epochs=3" in kdspec("plan", "spec.yaml", "--set", "stages.distil.training.epochs=3").out


def test_a_mistake_is_on_standard_error_and_there_is_no_plan(kdspec, spec):
    spec("layers: uniform", "layers: {12: 2}")
    outcome = kdspec("plan", "spec.yaml")
    assert (outcome.code, outcome.out) == (1, "")
    assert "error[KD301]" in outcome.err
    assert outcome.err.endswith("1 error in spec.yaml\n")


@pytest.mark.slow
def test_a_warning_does_not_keep_the_plan_back(kdspec, spec):
    spec("layers: uniform", "layers: uniform, weight: 0")
    outcome = kdspec("plan", "spec.yaml", "--json")
    assert outcome.code == 0
    assert "warning[KD305]" in outcome.err
    json.loads(outcome.out)


def test_a_missing_file_is_wrong_usage(kdspec, spec):
    assert kdspec("plan", "gone.yaml").code == 2


def test_two_forms_at_once_are_wrong_usage(kdspec, spec):
    spec()
    assert kdspec("plan", "spec.yaml", "--json", "--resolved").code == 2


@pytest.mark.slow
def test_a_static_plan_is_free_of_torch(spec):
    path = spec()
    code = f"import sys; from kdspec.cli import main; main(['plan', '--static', {str(path)!r}]); "
    code += "print({'torch', 'transformers', 'datasets', 'numpy'} & sys.modules.keys(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


@pytest.mark.slow
def test_a_plan_is_rehearsed(kdspec, spec):
    spec()
    told = kdspec("plan", "spec.yaml").out
    assert "hidden[0, 3, 6] 32 \N{MULTIPLICATION SIGN} 64 \N{MULTIPLICATION SIGN} 64" in told
    assert re.search(r"FLOP a row of \d+ tokens: teacher", told)
    found = json.loads(kdspec("plan", "--json", "spec.yaml").out)["rehearsal"]
    assert found["models"].keys() == {"teacher", "student"}
    assert found["stages"]["distil"]["memory"]["peak"] > found["models"]["teacher"]["bytes"]
    assert "rehearsal" not in json.loads(kdspec("plan", "--json", "--static", "spec.yaml").out)


def test_what_a_rehearsal_finds_is_on_standard_error_and_there_is_no_plan(kdspec, spec):
    spec("stages:", "adaptors:\n  teacher: {logits: output.logit, hidden: output.hidden_states}\nstages:")
    outcome = kdspec("plan", "spec.yaml")
    assert (outcome.code, outcome.out) == (1, "")
    assert "error[KD303]: `logits` of `teacher` is not at its path" in outcome.err
    assert outcome.err.endswith("1 error in spec.yaml\n")
    assert kdspec("plan", "--static", "spec.yaml").code == 0


ROWS = """\
kdspec: 1
name: rows
tasks:
  t: {sequence_classification: {data: {csv: {train: train.csv, test: test.csv}}, text: text, label: label}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  s: {distiller: {general: {teacher: teacher, student: student}}, training: {epochs: 1}}
"""


@pytest.fixture
def rows(tmp_path, monkeypatch, tiny):
    """A spec with rows in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(ROWS)
    (tmp_path / "train.csv").write_text("text,label\ngood film,x\nbad plot,y\n")
    (tmp_path / "test.csv").write_text("text,label\ngood film,x\n")


@pytest.mark.usefixtures("rows")
def test_rows_shows_what_the_models_read(kdspec):
    outcome = kdspec("plan", "--static", "--rows", "spec.yaml")
    assert outcome.code == 0
    assert "warning[KD519]: 1 of 1 test texts stand in `train` as they are" in outcome.err
    assert "train  2 rows, all labelled: x 1, y 1" in outcome.out
    assert "    [CLS] good film [SEP]\n    labels  x\n" in outcome.out


@pytest.mark.usefixtures("rows")
def test_rows_are_in_the_json_too(kdspec):
    data = json.loads(kdspec("plan", "--static", "--rows", "--json", "spec.yaml").out)["rows"]["t"]
    assert (data["classes"], data["splits"]["test"]["in_train"]) == (["x", "y"], 1)
    assert data["shown"][0]["tokens"] == ["[CLS]", "good", "film", "[SEP]"]


@pytest.mark.usefixtures("rows")
def test_an_error_in_the_rows_is_shown_without_a_plan(kdspec, tmp_path):
    (tmp_path / "test.csv").write_text("text,label\ngood film,z\n")
    outcome = kdspec("plan", "--static", "--rows", "spec.yaml")
    assert (outcome.code, outcome.out) == (1, "")
    assert "error[KD" in outcome.err


def test_rows_excludes_the_resolved_spec(kdspec, spec):
    spec()
    assert kdspec("plan", "--rows", "--resolved", "spec.yaml").code == 2
