"""`kdspec init`: what it writes is valid, and it replaces nothing unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from transformers import AutoConfig

from kdspec import load_registry
from kdspec.launch import shipped_specs
from kdspec.launch.shipped_specs import library
from kdspec.launch.spec_reading import read
from kdspec.spec import json_schema
from kdspec.testing import tiny

TASKS = sorted({*load_registry(installed=False).names("task")} - {"tensors"})
TINY = Path(__file__).parent.parent.parent / "data" / "tiny" / "teacher"


@pytest.fixture
def new(kdspec, tmp_path, monkeypatch):
    """Runs `kdspec init` with a task and models in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, task="sequence_classification", teacher=str(TINY), student="like:2"):
        student_ = ("--student", student) if student else ()
        return kdspec("init", *arguments, "--task", task, "--teacher", teacher, *student_)

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
    if teacher == str(TINY):  # its head is for two classes, and would be an error in most tasks
        teacher = str(shutil.copytree(TINY, tmp_path / "body"))
        config = json.loads((tmp_path / "body" / "config.json").read_text())
        (tmp_path / "body" / "config.json").write_text(json.dumps({**config, "architectures": None}))
    outcome = new(task=task, teacher=teacher, student=student)
    assert outcome.code == 0, outcome.err
    assert "next: kdspec plan spec.yaml" in outcome.err
    reading = read(str(tmp_path / "spec.yaml"), registry)
    assert reading.diagnostics == ()
    assert reading.plan is not None


def test_a_task_without_a_model_of_transformers_says_so(new, tmp_path):
    outcome = new(task="tensors")
    assert outcome.code == 2
    assert "no transformers model has a head for `tensors`" in " ".join(outcome.err.split())
    assert list(tmp_path.iterdir()) == []


def test_without_options_it_writes_a_spec_to_begin_with(kdspec, tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)
    outcome = kdspec("init")
    assert outcome.code == 0, outcome.err
    assert "teacher: " in outcome.err
    assert read("spec.yaml", registry).diagnostics == ()
    assert (tmp_path / "spec-example.csv").is_file()


TICKETS = "ticket_id,body,queue\n" + "".join(
    f"{n},the printer on floor {n} fails again,{'tech' if n % 2 else 'billing'}\n" for n in range(40)
)


def test_columns_are_guessed_from_the_values_and_said(new, tmp_path):
    (tmp_path / "tickets.csv").write_text(TICKETS)
    outcome = new("--data", "tickets.csv")
    assert outcome.code == 0, outcome.err
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert (task["text"], task["label"]) == ("body", "queue")
    assert "text: `body`" in outcome.err
    assert "label: `queue`, 2 different: `billing`, `tech`" in outcome.err
    assert "--text and --label choose others" in outcome.err


@pytest.mark.parametrize(("rows", "share"), [(99, None), (100, 0.1), (500, 0.1)])
def test_a_tenth_of_many_rows_is_for_validation(new, tmp_path, registry, rows, share):
    lines = (f"{n},the printer on floor {n} fails again,{'tech' if n % 2 else 'billing'}" for n in range(rows))
    (tmp_path / "tickets.csv").write_text("\n".join(("ticket_id,body,queue", *lines)))
    outcome = new("--data", "tickets.csv")
    assert outcome.code == 0, outcome.err
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert task["data"]["csv"].get("validation") == share
    assert ("validation: a tenth of the rows" in outcome.err) == bool(share)
    assert read(str(tmp_path / "spec.yaml"), registry).diagnostics == ()


def test_columns_of_the_command_line_go_first(new, tmp_path):
    (tmp_path / "tickets.csv").write_text(TICKETS)
    assert new("--data", "tickets.csv", "--text", "body", "--text", "queue", "--label", "ticket_id").code == 0
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert (task["text"], task["label"]) == (["body", "queue"], "ticket_id")
    outcome = new("other.yaml", "--data", "tickets.csv", "--label", "quue")
    assert outcome.code == 2
    assert "did you mean `queue`?" in outcome.err


@pytest.mark.parametrize(
    ("name", "text", "task"),
    [
        ("train.conll", "Ann B-PER\nlives O\n\nBob B-PER\n", "token_classification"),
        ("train.txt", "Ann B-PER\nlives O\n\nBob B-PER\nleft O\n\n", "token_classification"),
        ("lines.txt", "one sentence\nand another\n", "sequence_classification"),  # the teacher has a head for it
        ("squad.json", '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "1", "question": "q", "answers": [{"text": "b", "answer_start": 2}]}]}]}]}', "question_answering"),
        ("pairs.tsv", "premise\thypothesis\tlabel\nit rains\tit is wet\tyes\nit rains\tit is dry\tno\n", "sequence_classification"),
        ("scores.jsonl", "".join(f'{{"text": "a film of {n} minutes", "score": {n / 7}}}\n' for n in range(40)), "regression"),
    ],
)  # fmt: skip
def test_the_task_is_that_of_the_data(kdspec, tmp_path, monkeypatch, registry, name, text, task):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    outcome = kdspec("init", "--data", name, "--teacher", str(TINY), "--student", "like:2")
    assert outcome.code == 0, outcome.err
    assert list(yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]) == [task]
    assert read("spec.yaml", registry).diagnostics == ()


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_table_with_another_delimiter_is_read_with_it(new, tmp_path, registry, mark):
    (tmp_path / "tickets.csv").write_text(TICKETS.replace(",", mark))
    assert new("--data", "tickets.csv").code == 0
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert task["data"]["csv"]["delimiter"] == mark
    assert (task["text"], task["label"]) == ("body", "queue")
    assert read(str(tmp_path / "spec.yaml"), registry).diagnostics == ()


@pytest.mark.parametrize(
    "rows", [TICKETS.partition("\n")[2], 'the printer fails,tech\n"again, it fails",tech\nwhy,billing\nwho,billing\n']
)
def test_columns_of_a_table_without_a_header_get_names(new, tmp_path, registry, rows):
    (tmp_path / "tickets.csv").write_text(rows)
    outcome = new("--data", "tickets.csv")
    assert outcome.code == 0, outcome.err
    assert "its first row is data" in " ".join(outcome.err.split())
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    columns = task["data"]["csv"]["columns"]
    assert (task["text"], task["label"]) == (columns[-2], columns[-1])
    assert read(str(tmp_path / "spec.yaml"), registry).diagnostics == ()


@pytest.mark.parametrize(
    "text",
    [
        "text,2019\na fine year,3\na bad one,4\n",
        "id,positive\na1,positive\na2,negative\n",
        "text,label\nlabel,x\ny,z\n",
    ],
)
def test_a_header_is_taken_for_one(new, tmp_path, text):
    (tmp_path / "rows.csv").write_text(text)
    new("--data", "rows.csv", "--text", text.partition(",")[0])
    assert "columns" not in (tmp_path / "spec.yaml").read_text().partition("csv:")[2].partition("}")[0]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("quote.csv", 'text,label\n"hello,a\nyou,b\n', "a quotation mark is never closed"),
        ("fields.csv", "text,label\nhello, you,a\nyou,b\n", "3 fields in a row, and 2 columns"),
        ("header.csv", "text,label\n", "header.csv has no rows"),
        ("empty.csv", "", "the file is empty"),
        ("table.xlsx", "PK\x03\x04\x14", "the file is a zip archive"),
        ("half.jsonl", '{"text": "a"}\n{"text": \n', "half.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_before_anything_is_written(new, tmp_path, name, text, what):
    (tmp_path / name).write_text(text)
    outcome = new("--data", name)
    assert outcome.code == 2
    assert what in " ".join(outcome.err.split())
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_texts_are_refused_as_the_numbers_of_a_regression(new, tmp_path):
    (tmp_path / "tickets.csv").write_text(TICKETS)
    outcome = new("--data", "tickets.csv", task="regression")
    assert outcome.code == 2
    assert "`regression` learns numbers, and `queue` has `billing`" in " ".join(outcome.err.split())
    assert new("--data", "tickets.csv", "--label", "ticket_id", task="regression").code == 0


def test_rows_below_a_key_of_a_json_object_are_found(new, tmp_path, registry):
    rows = [{"text": f"row {n} is fine", "label": "ab"[n % 2]} for n in range(6)]
    (tmp_path / "rows.json").write_text(json.dumps({"version": 1, "data": rows}))
    assert new("--data", "rows.json").code == 0
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert task["data"]["json"]["field"] == "data"
    assert (task["text"], task["label"]) == ("text", "label")
    assert read(str(tmp_path / "spec.yaml"), registry).diagnostics == ()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_example_of_a_task_runs(kdspec, tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    tiny(tmp_path / "model")
    assert kdspec("init", "--task", task, "--teacher", "./model", "--student", "like:1").code == 0
    outcome = kdspec("run", "spec.yaml")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("task", "problem", "stages"),
    [
        ("sequence_classification", "single_label_classification", ["distil"]),
        ("sequence_classification", "regression", ["fine_tune", "distil"]),
        ("multi_label", "multi_label_classification", ["distil"]),
        ("token_classification", None, ["fine_tune", "distil"]),
        ("masked_lm", None, ["fine_tune", "distil"]),
    ],
)
def test_a_teacher_is_trained_first_unless_its_head_is_of_the_task(new, tmp_path, task, problem, stages):
    config = AutoConfig.for_model("bert", num_hidden_layers=4, problem_type=problem)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(tmp_path / "model")
    new(teacher="./model", task=task)
    assert list(yaml.safe_load((tmp_path / "spec.yaml").read_text())["stages"]) == stages


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
    assert (task["text"], task["label"]) == ("sentence", "label")
    assert not list(tmp_path.rglob("*-example.csv"))


@pytest.mark.parametrize(("name", "reader"), [("rows.csv", "csv"), ("rows.jsonl", "json"), ("rows.parquet", "parquet")])
def test_data_is_read_by_its_suffix(new, tmp_path, name, reader):
    rows = Dataset.from_list([{"text": "a row", "label": "b"}, {"text": "another", "label": "c"}])
    {"csv": rows.to_csv, "json": rows.to_json, "parquet": rows.to_parquet}[reader](tmp_path / name)
    assert new("--data", name).code == 0
    task = yaml.safe_load((tmp_path / "spec.yaml").read_text())["tasks"]["main"]["sequence_classification"]
    assert task["data"] == {reader: {"train": f"./{name}"}}


def test_missing_data_is_reported_before_anything_is_written(new, tmp_path):
    outcome = new("--data", "rows.csv")
    assert outcome.code == 2
    assert "rows.csv" in outcome.err
    assert "does not exist" in outcome.err
    assert not list(tmp_path.iterdir())


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
        ({"teacher": "like:2"}, "a teacher is a folder or a name on the hub"),
        ({"student": "lik:2"}, "names no model"),
    ],
)
def test_unusable_arguments_are_reported(new, arguments, told):
    outcome = new(**arguments)
    assert outcome.code in {1, 2}
    assert told in outcome.err


WHOLE = sorted(name for name in library() if not name.startswith("recipes/"))


@pytest.mark.parametrize("name", WHOLE)
def test_a_spec_of_the_library_is_copied_with_all_that_it_needs(kdspec, tmp_path, monkeypatch, name, registry):
    monkeypatch.chdir(tmp_path)
    kdspec("init", "deeper/copy.yaml", "--from", name)
    there, here = library()[name], tmp_path / "deeper" / "copy.yaml"
    assert {d.code for d in read(str(here), registry).diagnostics} == {
        d.code for d in read(str(there), registry).diagnostics
    }
    assert here.read_text().startswith("# yaml-language-server: $schema=kdspec.schema.json\n")


def test_an_installed_package_names_no_path_of_itself(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped_specs, "_PACKAGE", tmp_path / "site" / "kdspec")
    shutil.copytree(
        Path(__file__).parent.parent.parent.parent / "specs", tmp_path / "site" / "kdspec" / "specs",
        ignore=shutil.ignore_patterns("assets"),
    )  # fmt: skip
    for name in ("quickstart", "basics/own_pairs", "basics/matches", "textbrewer/mnli_t3"):
        folder = Path(name.replace("/", "_"))
        outcome = kdspec("init", str(folder / "spec.yaml"), "--from", name)
        assert outcome.code == 0, outcome.err
        assert all("site" not in path.read_text() for path in folder.iterdir())
    assert (
        "next: kdspec fetch headlines all-MiniLM-L6-v2 --into" in kdspec("init", "q/s.yaml", "--from", "quickstart").err
    )


@pytest.mark.parametrize("name", sorted({*library()} - {*WHOLE}))
def test_a_recipe_takes_the_models_and_the_data_of_the_user(new, tmp_path, name, registry):
    (tmp_path / "tickets.csv").write_text(TICKETS)
    AutoConfig.for_model("bert", num_hidden_layers=6, hidden_size=48, num_attention_heads=12).save_pretrained(
        tmp_path / "model"
    )
    outcome = new("--from", name, "--data", "tickets.csv", teacher="./model", student="")
    text = (tmp_path / "spec.yaml").read_text()
    made, original = yaml.safe_load(text), yaml.safe_load(library()[name].read_text())
    assert made["tasks"]["main"]["sequence_classification"]["label"] == "queue"
    assert made["models"]["teacher"]["transformers"]["path"] == "./model"
    assert made["models"]["student"] == original["models"]["student"]
    assert {key: stage for key, stage in made["stages"].items() if key != "fine_tune"} == original["stages"]
    assert "sarcasm" not in text
    assert outcome.code == 0, outcome.err


def test_a_misspelt_name_of_the_library_is_corrected(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = kdspec("init", "--from", "quikstart")
    assert outcome.code == 2
    assert "did you mean `quickstart`?" in outcome.err


def test_a_copy_excludes_other_choices(new):
    outcome = new("--from", "quickstart")
    assert outcome.code == 2
    assert "excludes the other options" in outcome.err


def test_texts_and_a_teacher_with_a_head_need_no_labels(kdspec, tmp_path, monkeypatch, registry):
    """Its two classes are those of the student; without such a teacher the rows are for masked words, as before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("".join(f"a film of {n} hours\n" for n in range(120)))
    outcome = kdspec("init", "--data", "texts.txt", "--teacher", str(TINY), "--student", "like:2")
    assert outcome.code == 0, outcome.err
    spec = yaml.safe_load((tmp_path / "spec.yaml").read_text())
    assert spec["tasks"]["main"]["sequence_classification"].keys() == {"data", "text"}
    assert [*spec["stages"]] == ["distil"]
    assert "hard_labels" not in spec["stages"]["distil"]["distiller"]["general"]
    reading = read("spec.yaml", registry)
    assert (reading.diagnostics, reading.failed) == ((), False)
    assert kdspec("init", "body.yaml", "--data", "texts.txt").code == 0
    assert [*yaml.safe_load((tmp_path / "body.yaml").read_text())["tasks"]["main"]] == ["masked_lm"]


@pytest.mark.parametrize("name", [name for name in sorted(library()) if name.startswith("recipes/")])
def test_a_recipe_is_valid_before_its_usual_teacher_is_there(kdspec, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdspec.cli.commands.init.assets_folder", lambda folder: tmp_path / "none")
    outcome = kdspec("init", "--from", name)
    assert outcome.code == 0, outcome.err
    assert "num_hidden_layers: 6" in Path("spec.yaml").read_text()
