"""`kdspec init`: what it writes is valid, and it replaces nothing unasked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig

from kdspec import load_registry
from kdspec.cli.read_spec import read
from kdspec.cli.spec_library import library
from kdspec.spec import json_schema

BY_EXAMPLE = {"masked_lm", "question_answering", "token_classification"}
TASKS = sorted({*load_registry(installed=False).names("task")} - BY_EXAMPLE)
TINY = Path(__file__).parent.parent.parent / "data" / "tiny" / "teacher"


@pytest.fixture
def new(kdspec, tmp_path, monkeypatch):
    """Runs `kdspec init` with a task and models in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, task="sequence_classification", teacher=str(TINY), student="like:2"):
        return kdspec("init", *arguments, "--task", task, "--teacher", teacher, "--student", student)

    return run


@pytest.fixture(scope="module")
def registry():
    return load_registry(installed=False)


@pytest.fixture(scope="module", autouse=True)
def _one_schema(registry):
    """It goes beside every spec, and takes longer to make than all the rest."""
    text = json_schema.text(registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_schema, "text", lambda _: text)
        yield


@pytest.mark.parametrize(
    ("teacher", "student"), [(str(TINY), "like:2"), (str(TINY), "owner/small"), ("owner/large", "like:1")]
)
@pytest.mark.parametrize("task", TASKS)
def test_what_it_writes_is_valid_and_has_a_plan(new, tmp_path, task, teacher, student, registry):
    outcome = new(task=task, teacher=teacher, student=student)
    assert outcome.code == 0, outcome.err
    assert "next: kdspec plan spec.yaml" in outcome.err
    reading = read(str(tmp_path / "spec.yaml"), registry)
    assert reading.diagnostics == ()
    assert reading.plan is not None


@pytest.mark.parametrize("task", sorted(BY_EXAMPLE))
def test_a_task_with_rows_of_its_own_form_has_a_spec_to_begin_with(new, task):
    outcome = new(task=task)
    assert outcome.code == 2
    (name,) = re.findall(r"--from ([a-z_]+/[a-z_]+)", " ".join(outcome.err.split()))
    assert name in library()


def test_it_begins_with_the_line_for_editors_and_brings_the_schema(new, tmp_path):
    new()
    first = (tmp_path / "spec.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=kdspec.schema.json"
    assert "definitions" in json.loads((tmp_path / "kdspec.schema.json").read_text())


def test_a_student_like_the_teacher_begins_with_layers_of_it(new, tmp_path):
    new()
    student = yaml.safe_load((tmp_path / "spec.yaml").read_text())["models"]["student"]["transformers"]
    last = json.loads((TINY / "config.json").read_text())["num_hidden_layers"] - 1
    assert student == {"like": "teacher", "config": {"num_hidden_layers": 2}, "initialize": {"layers": [0, last]}}


def test_a_teacher_with_a_head_is_not_trained_again(new, tmp_path):
    folder = tmp_path / "model"
    config = AutoConfig.for_model("bert", num_hidden_layers=4)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(folder)
    new(teacher="./model")
    assert list(yaml.safe_load((tmp_path / "spec.yaml").read_text())["stages"]) == ["distil"]


def test_paths_are_seen_from_the_spec(new, tmp_path):
    AutoConfig.for_model("bert").save_pretrained(tmp_path / "model")
    (tmp_path / "rows.tsv").write_text("id\tsentence\tlabel\n1\tgood\tpos\n")
    assert new("specs/one.yaml", "--data", "rows.tsv", teacher="model").code == 0
    spec = yaml.safe_load((tmp_path / "specs" / "one.yaml").read_text())
    assert spec["models"]["teacher"] == {"transformers": {"path": "../model"}}
    task = spec["tasks"]["main"]["sequence_classification"]
    assert task["data"] == {"csv": {"train": "../rows.tsv", "delimiter": "\t", "quoting": False}}
    assert (task["text"], task["label"]) == ("id", "label")
    assert not list(tmp_path.rglob("*-example.csv"))


@pytest.mark.parametrize(("name", "reader"), [("rows.csv", "csv"), ("rows.jsonl", "json"), ("rows.parquet", "parquet")])
def test_data_is_read_by_its_suffix(new, tmp_path, name, reader):
    (tmp_path / name).write_text('{"text": "a", "label": "b"}\n')
    assert new("--data", name).code == 0
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert task["data"] == {reader: {"train": f"./{name}"}}


def test_missing_data_is_reported(new):
    outcome = new("--data", "rows.csv")
    assert outcome.code == 1
    assert "KD310" in outcome.err


@pytest.mark.parametrize("name", ["spec.yaml", "spec-example.csv"])
def test_nothing_is_replaced_unless_forced(new, tmp_path, name):
    (tmp_path / name).write_text("mine")
    outcome = new()
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
    assert new("--force").code == 0
    assert (tmp_path / name).read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"task": "sequence_clasification"}, "did you mean `sequence_classification`?"),
        ({"teacher": "./missing"}, "there is no folder `./missing`"),
        ({"teacher": "."}, "has no `config.json`"),
        ({"teacher": "like:2"}, "KD310"),
    ],
)
def test_unusable_arguments_are_reported(new, arguments, told):
    outcome = new(**arguments)
    assert outcome.code in {1, 2}
    assert told in outcome.err


def test_models_and_task_are_needed(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = kdspec("init", "--task", "tensors")
    assert outcome.code == 2
    assert "--teacher" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(library()))
def test_a_spec_of_the_library_is_copied_with_its_files_in_sight(kdspec, tmp_path, monkeypatch, name, registry):
    monkeypatch.chdir(tmp_path)
    kdspec("init", "deeper/copy.yaml", "--from", name)
    there, here = library()[name], tmp_path / "deeper" / "copy.yaml"
    assert {d.code for d in read(str(here), registry).diagnostics} == {
        d.code for d in read(str(there), registry).diagnostics
    }
    assert here.read_text().startswith("# yaml-language-server: $schema=kdspec.schema.json\n")


def test_a_misspelt_name_of_the_library_is_corrected(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = kdspec("init", "--from", "quikstart")
    assert outcome.code == 2
    assert "did you mean `quickstart`?" in outcome.err


def test_a_copy_excludes_other_choices(new):
    outcome = new("--from", "quickstart")
    assert outcome.code == 2
    assert "excludes the other options" in outcome.err
