"""`kdspec predict`: models of a run and of folders, files of every format, and wrong calls."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from headed_models import headed

from kdspec.testing import run, tiny

SPEC = """\
kdspec: 1
name: fast
tasks: {texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student, tokenizer: teacher}}}
stages:
  teach:
    distiller: {supervised: {model: teacher}}
    training: {steps: 1, batch_size: 4, evaluate: null}
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 1, batch_size: 4, evaluate: null}
"""
ROWS = [{"id": n, "text": " ".join("abcdefgh"[: 1 + n % 8]), "label": ["no", "yes"][n % 2]} for n in range(40)]
NAMES = ["no", "yes"]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a finished run whose spec lies elsewhere."""
    home = tmp_path_factory.mktemp("home")
    tiny(home / "teacher", layers=2, seed=1)
    tiny(home / "student", layers=1, seed=2)
    jsonl(home / "rows.jsonl", ROWS)
    return run(SPEC, home / "runs", folder=home).folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with new rows, which have no labels."""
    monkeypatch.chdir(tmp_path)
    jsonl(
        tmp_path / "new.jsonl",
        [{"id": row["id"], "text": row["text"], "more": {"a": None, "b": [0.5, 1.5]}} for row in ROWS],
    )
    return tmp_path


def test_the_final_student_of_a_run(kdspec, folder, here):
    outcome = kdspec("predict", str(folder), "--data", "new.jsonl", "-o", "out.jsonl", "--device", "cpu")
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    assert "wrote 40 rows to out.jsonl" in outcome.err
    rows = read("out.jsonl")
    assert [tuple(row) for row in rows] == [("id", "text", "more", "answer", "confidence", "logits")] * 40
    assert [{key: row[key] for key in ("id", "text", "more")} for row in rows] == read("new.jsonl")
    assert all(row["answer"] == max(row["logits"], key=row["logits"].get) for row in rows)
    assert list(rows[0]["logits"]) == NAMES
    assert [path.name for path in here.iterdir()] in (["new.jsonl", "out.jsonl"], ["out.jsonl", "new.jsonl"])


def test_each_model_of_a_run_by_its_name_or_its_folder(kdspec, folder, here):
    found = {}
    for name, place, *more in (
        ("default", folder),
        ("teacher", folder, "--model", "teacher"),
        ("student", folder / "student"),
        ("of models", folder / "models" / "teacher"),
    ):
        outcome = kdspec("predict", str(place), *more, "--data", "new.jsonl", "-o", "-")
        assert outcome.code == 0, outcome.err
        found[name] = outcome.out
    assert found["default"] == found["student"]
    assert found["teacher"] == found["of models"] != found["student"]
    assert len(found["default"].splitlines()) == 40


def test_the_saved_student_alone_gives_the_same(kdspec, folder, here):
    import shutil

    shutil.copytree(folder / "student", here / "alone")
    one = kdspec("predict", str(folder), "--data", "new.jsonl", "-o", "-")
    two = kdspec("predict", "alone", "--data", "new.jsonl", "--text", "text", "-o", "-")
    assert two.code == 0, two.err
    assert one.out == two.out
    three = kdspec("predict", "alone", "--data", "new.jsonl", "-o", "-")
    assert (three.out, "the text is in `text`; --text names other columns" in three.err) == (one.out, True)


def test_files_of_every_format_give_the_same_numbers(kdspec, folder, here):
    import pandas as pd

    table = pd.DataFrame(read("new.jsonl"))[["id", "text"]]
    table.to_csv("new.csv", index=False, quoting=csv.QUOTE_ALL)
    table.to_csv("new.tsv", index=False, sep="\t")
    table.to_parquet("new.parquet")
    (here / "new.json").write_text(table.to_json(orient="records"))
    with gzip.open("new.jsonl.gz", "wt") as packed:
        packed.write((here / "new.jsonl").read_text())
    seen = set()
    for name in ("new.jsonl", "new.csv", "new.tsv", "new.parquet", "new.json", "new.jsonl.gz"):
        outcome = kdspec("predict", str(folder), "--data", name, "-o", "-")
        assert outcome.code == 0, outcome.err
        rows = [json.loads(line) for line in outcome.out.splitlines()]
        seen.add(json.dumps([(int(row["id"]), row["text"], row["logits"]) for row in rows]))
    assert len(seen) == 1


PAIRS = [{"one": row["text"], "two": "a b"} for row in ROWS[:9]]
SENTENCES = [{"tokens": row["text"].split(), "tags": ["X"]} for row in ROWS[:9]]
QUESTIONS = [{"question": "a b", "context": row["text"]} for row in ROWS[:9]]
FOLDERS = {
    "classes": ("AutoModelForSequenceClassification", ["x", "y", "z"], {}, ROWS[:9], ["text"], "answer confidence logits"),
    "pairs": ("AutoModelForSequenceClassification", ["x", "y"], {}, PAIRS, ["one", "two"], "answer confidence logits"),
    "unnamed": ("AutoModelForSequenceClassification", None, {"num_labels": 3}, ROWS[:9], ["text"], "answer confidence logits"),
    "labels": (
        "AutoModelForSequenceClassification", ["x", "y"], {"problem_type": "multi_label_classification"}, ROWS[:9],
        ["text"], "answer confidence logits",
    ),
    "number": ("AutoModelForSequenceClassification", None, {"num_labels": 1}, ROWS[:9], ["text"], "answer logits"),
    "numbers": (
        "AutoModelForSequenceClassification", ["x", "y"], {"problem_type": "regression"}, ROWS[:9], ["text"],
        "answer logits",
    ),
    "tags": ("AutoModelForTokenClassification", ["O", "B-X"], {}, SENTENCES, [], "answer confidence logits"),
    "answers": ("AutoModelForQuestionAnswering", None, {}, QUESTIONS, [], "answer score"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_with_any_head(kdspec, here, name):
    auto, labels, changes, rows, text, columns = FOLDERS[name]
    headed(here / "model", auto, labels, seed=5, **changes)
    jsonl(here / "rows.jsonl", rows)
    named = [word for column in text for word in ("--text", column)]
    outcome = kdspec("predict", "model", "--data", "rows.jsonl", *named, "-o", "-")
    assert outcome.code == 0, outcome.err
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert [{key: row[key] for key in rows[0]} for row in found] == rows
    assert all(list(row)[len(rows[0]) :] == columns.split() for row in found)
    first = found[8]
    match name:
        case "classes" | "pairs" | "unnamed":
            names = labels or ["LABEL_0", "LABEL_1", "LABEL_2"]
            assert list(first["logits"]) == names
            assert first["answer"] in names
        case "labels":
            assert first["answer"] == [label for label, logit in first["logits"].items() if logit > 0]
        case "number":
            assert first["answer"] == first["logits"]
            assert isinstance(first["answer"], float)
        case "numbers":
            assert list(first["answer"]) == labels
        case "tags":
            assert all(len(row["answer"]) == len(row["logits"]) == len(row["tokens"]) for row in found)
        case "answers":
            assert all(row["answer"] in row["context"] for row in found)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("classes", "sequence_classification: {data: {json: {train: rows.jsonl}}, text: text}"),
        ("labels", "multi_label: {data: {json: {train: rows.jsonl}}, text: text}"),
        ("number", "regression: {data: {json: {train: rows.jsonl}}, text: text}"),
        ("tags", "token_classification: {data: {json: {train: rows.jsonl}}, tokens: tokens, tags: null}"),
        ("answers", "question_answering: {data: {json: {train: rows.jsonl}}, answers: null}"),
    ],
)
def test_the_student_of_a_run_without_labels(kdspec, here, name, task):
    auto, labels, changes, rows, _, columns = FOLDERS[name]
    headed(here / "teacher", auto, labels, seed=5, **changes)
    jsonl(here / "rows.jsonl", rows)
    text = f"""\
kdspec: 1
name: unlabelled
tasks: {{t: {{{task}}}}}
models:
  teacher: {{transformers: {{path: teacher}}}}
  student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}}}}}
stages:
  s:
    distiller: {{general: {{teacher: teacher, student: student}}}}
    training: {{steps: 1, batch_size: 4, evaluate: null}}
"""
    run(text, here / "runs", folder=here)
    outcome = kdspec("predict", "runs/unlabelled", "--data", "rows.jsonl", "-o", "-", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert [{key: row[key] for key in rows[0]} for row in found] == rows
    assert all(list(row)[len(rows[0]) :] == columns.split() for row in found)


def test_vectors_of_a_folder_of_sentence_transformers(kdspec, here):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tiny(here / "body", seed=7)
    body = Transformer(str(here / "body"))
    whole = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension())], device="cpu")
    whole.save(str(here / "model"))
    outcome = kdspec("predict", "model", "--data", "new.jsonl", "-o", "-")
    assert outcome.code == 0, outcome.err
    found = [json.loads(line)["embedding"] for line in outcome.out.splitlines()]
    expected = whole.encode([row["text"] for row in read("new.jsonl")])
    assert found == [pytest.approx(vector, abs=1e-5) for vector in expected.tolist()]


def test_tags_of_words_in_a_conll_file(kdspec, here):
    headed(here / "model", "AutoModelForTokenClassification", ["O", "B-X"], seed=5)
    (here / "new.conll").write_text("a O\nbc B-X\n\nd O\n")
    outcome = kdspec("predict", "model", "--data", "new.conll", "-o", "-")
    assert outcome.code == 0, outcome.err
    assert [json.loads(line)["tokens"] for line in outcome.out.splitlines()] == [["a", "bc"], ["d"]]


def test_an_interrupted_start_leaves_what_it_has_computed(kdspec, folder, here, monkeypatch):
    from kdspec.engine.prediction import prediction, predictions_file

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(predictions_file, "flush", full)
        outcome = kdspec("predict", str(folder), "--data", "new.jsonl", "-o", "out.jsonl")
    assert (outcome.code, "error[KD508]" in outcome.err) == (3, True), outcome.err
    assert not (here / "out.jsonl").exists()
    assert (here / "out.jsonl.part").is_dir()
    computed = []
    was = prediction.TeacherCache._computed
    monkeypatch.setattr(
        prediction.TeacherCache, "_computed", lambda self, samples: computed.append(samples) or was(self, samples)
    )
    outcome = kdspec("predict", str(folder), "--data", "new.jsonl", "-o", "out.jsonl")
    assert (outcome.code, computed) == (0, [])
    assert not (here / "out.jsonl.part").exists()
    assert len(read("out.jsonl")) == 40


WRONG = {
    "no data": ("RUN", ["--data", "absent.jsonl"], 2, "'absent.jsonl' does not exist"),
    "no run": ("absent", ["--data", "new.jsonl"], 2, "'absent' does not exist"),
    "neither": (".", ["--data", "new.jsonl"], 2, "`.` is neither the folder of a run (`events.jsonl`) nor that of a model"),
    "a model that the run has not": ("RUN", ["--data", "new.jsonl", "--model", "techer"], 2, "did you mean `teacher`?"),
    "a task that the model has not": ("RUN", ["--data", "new.jsonl", "--task", "text"], 2, "did you mean `texts`?"),
    "a column of a run": ("RUN", ["--data", "new.jsonl", "--text", "text"], 2, "a run's spec names its columns"),
    "a model of a folder": ("bare", ["--data", "new.jsonl", "--model", "m"], 2, "is for the folder of a run"),
    "a body": ("bare", ["--data", "new.jsonl"], 2, "`bare` is of a `BertModel`, which gives no answer for a row"),
    "a missing column": ("RUN", ["--data", "other.jsonl"], 3, "`other.jsonl` has no column `text`, which the model reads"),
    "near names": ("RUN", ["--data", "other.jsonl"], 3, "did you mean `texts`? its columns are `n`, `texts`"),
    "a column twice": ("RUN", ["--data", "answered.jsonl"], 3, "has a column `confidence` already"),
    "a missing text": ("head", ["--data", "new.jsonl", "--text", "sentence"], 3, "`new.jsonl` has no column `sentence`"),
    "no rows": ("RUN", ["--data", "empty.jsonl"], 2, "empty"),
    "an existing file": ("RUN", ["--data", "new.jsonl", "-o", "new.jsonl"], 2, "`new.jsonl` exists already"),
    "below a file": ("RUN", ["--data", "new.jsonl", "-o", "new.jsonl/b.jsonl"], 2, "`new.jsonl` is a file"),
    "a spec": ("spec.yaml", ["--data", "new.jsonl"], 2, "name the folder of the spec's run, such as `runs/NAME`"),
    "no probabilities": (
        "number", ["--data", "new.jsonl", "--text", "text", "--probabilities"], 3, "the task `regression` has no probabilities",
    ),
    "no such device": ("RUN", ["--data", "new.jsonl", "--device", "gpu9"], 2, "`gpu9` cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_says_what_to_do(kdspec, folder, here, name):
    place, arguments, code, message = WRONG[name]
    jsonl(here / "other.jsonl", [{"n": 1, "texts": "a"}])
    jsonl(here / "answered.jsonl", [{"text": "a", "confidence": 1}])
    (here / "empty.jsonl").write_text("")
    (here / "spec.yaml").write_text("kdspec: 1")
    if place == "bare":
        tiny(here / "bare")
    if place in ("head", "number"):
        changes = {"num_labels": 1} if place == "number" else {}
        headed(here / place, "AutoModelForSequenceClassification", **changes)
    output = [] if "-o" in arguments else ["-o", "out.jsonl"]
    outcome = kdspec("predict", str(folder) if place == "RUN" else place, *arguments, *output)
    told = " ".join(outcome.err.split())
    assert (outcome.code, " ".join(message.split()) in told) == (code, True), outcome.err
    assert not (here / "out.jsonl").exists()


def test_a_run_that_has_not_finished(kdspec, folder, here):
    import shutil

    shutil.copytree(folder, here / "run")
    (here / "run" / "stages" / "distil.json").unlink()
    plan = json.loads((here / "run" / "plan.json").read_text())
    plan["folder"] = str((folder / plan["folder"]).resolve())
    (here / "run" / "plan.json").write_text(json.dumps(plan))
    outcome = kdspec("predict", "run", "--data", "new.jsonl", "-o", "-")
    assert (outcome.code, "has not finished the stage that trains `student`" in outcome.err) == (2, True), outcome.err
    assert kdspec("predict", "run", "--model", "teacher", "--data", "new.jsonl", "-o", "-").code == 0


def test_a_baseline_that_is_trained_last_is_not_the_student(kdspec, here):
    home = here / "home"
    tiny(home / "teacher", layers=2, seed=1)
    jsonl(home / "rows.jsonl", ROWS)
    spec = SPEC.replace("path: student, tokenizer: teacher", "like: teacher, config: {num_hidden_layers: 1}").replace(
        "student: {transformers", "alone: {transformers: {like: teacher}}, student: {transformers"
    )
    last = "  alone: {distiller: {supervised: {model: alone}}, training: {steps: 1, batch_size: 4, evaluate: null}}\n"
    run_folder = run(spec + last, here / "runs", folder=home).folder
    found = {}
    for name in ("", "student", "alone"):
        outcome = kdspec(
            "predict", str(run_folder), *(("--model", name) if name else ()), "--data", "new.jsonl", "-o", "-"
        )
        assert outcome.code == 0, outcome.err
        found[name] = outcome.out
    assert found[""] == found["student"] != found["alone"]
