"""The errors of a model in the table: names of classes, texts of rows, and what a run records of them."""

from __future__ import annotations

import json

import pytest

from kdspec import BuiltTask, Evaluator, Head
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.result_row import DifferingRow, RowErrors, read_table
from kdspec.engine.evaluation.row_errors import row_errors
from kdspec.events import RunFinished
from kdspec.registry.plugins import Plugins
from kdspec.report import report
from kdspec.testing import tiny


class Rows(BuiltTask):
    """A task with texts and nothing else."""

    head = Head(labels=("a", "b"))

    def __init__(self, *texts):
        self._texts = texts

    def rows(self, split):
        return len(self._texts)

    def encode(self, split, readers):
        raise NotImplementedError

    def collate(self, rows, reader):
        raise NotImplementedError

    def texts(self, split):
        return self._texts


class Found(Evaluator):
    """An evaluator with this analysis."""

    def __init__(self, **found):
        self.found = found

    def add(self, features, batch):
        return {}

    def merge(self, states):
        return {}

    def error_analysis(self, states, reference, names):
        return self.found


def shown(texts, answers, **found):
    """The row in which some answers differ."""
    made = Found(differing=[{"row": 0, "answers": answers}], **found)
    (row,) = row_errors(made, Rows(texts), "test", [{}], [{}]).differing
    return row


def answer(part):
    return [part, "a", "b", 0.9, "a", 0.8]


def test_a_row_has_its_number_from_one_and_its_texts():
    row = shown(("one", "x" * 1000), [answer(0)])
    assert row == DifferingRow(1, [[("one", False)], [("x" * 400 + " …", False)]], [("", *answer(0)[1:])])


def test_labels_keep_their_names():
    assert shown(("one",), [answer("spam")]).answers[0][0] == "spam"


def test_words_are_marked_in_their_sentence_in_its_order():
    row = shown(("the", "big", "cat", "sat"), [answer(3), answer(1)], unit="words")
    assert row.texts == [[("the ", False), ("big", True), (" cat ", False), ("sat", True)]]
    assert [name for name, *_ in row.answers] == ["big", "sat"]


def test_there_are_no_spaces_between_chinese_characters():
    assert shown(tuple("我在北京abc"), [answer(2)], unit="words").texts == [
        [("我在", False), ("北", True), ("京 a b c", False)]
    ]


def test_of_a_long_sentence_the_words_around_the_first_are_shown():
    words = tuple(f"w{n}" for n in range(500))
    (parts,) = shown(words, [answer(100), answer(499)], unit="words").texts
    assert [part for part in parts if part[1]] == [("w100", True)]
    text = "".join(part for part, _ in parts)
    assert text.startswith("… w75 ")
    assert text.endswith(" w144 …")


def test_a_task_without_texts_has_rows_without_texts():
    made = Found(differing=[{"row": 3, "answers": [answer(2)]}], unit="words")
    assert row_errors(made, Rows(), "test", [{}], ()).differing == [DifferingRow(4, [], [("3", *answer(2)[1:])])]


def test_an_evaluator_may_have_texts_of_its_own_and_something_to_add():
    made = {"texts": ["a query"], "about": "far", "right": [[True, None]]}
    found = Found(differing=[{"row": None, "answers": [answer(0)], **made}], counted="queries", number="score")
    errors = row_errors(found, Rows(), "test", [{}], [{}])
    assert errors.differing == [
        DifferingRow(None, [[("a query", False)]], [("", *answer(0)[1:])], "far", [[True, None]])
    ]
    assert (errors.counted, errors.number) == ("queries", "score")


def test_long_answers_and_labels_are_shortened():
    (label, mine) = shown(("text",), [["", ["x" * 500, "y" * 500], "z" * 500, None, "b", None]]).answers[0][1:3]
    assert label == "x" * 200 + " … / " + "y" * 200 + " …"
    assert mine == "z" * 400 + " …"


def test_of_many_labels_some_are_shown_and_the_others_counted():
    assert shown(("text",), [["", ["a"], "b", None, "c", None]]).answers[0][1] == "a"
    assert shown(("text",), [["", list("abcde"), "b", None, "c", None]]).answers[0][1] == "a / b / c / 2 more"


def test_an_evaluator_without_an_analysis_has_no_errors():
    assert row_errors(Found(), Rows(), "test", [{}], ()) is None
    assert row_errors(Found(matrix=[[1]]), Rows(), "test", [], ()) is None


SPEC = """\
kdspec: 1
name: wrong
seed: 2
tasks:
  rows: {TASK}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, initialize: none}}
stages:
  learn:
    distiller: {supervised: {model: teacher}}
    training: {steps: 40, batch_size: 4, optimizer: {adamw: {lr: 0.02}}}
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: SOFT}}}
    training: {steps: 1, batch_size: 4, optimizer: {adamw: {lr: 0.0001}}}
"""
DATA = "data: {csv: {train: train.csv, validation: validation.csv}}, text: text"
TASKS = {
    "classes": (f"{{sequence_classification: {{{DATA}, label: label}}}}", "kl"),
    "labels": (f"{{multi_label: {{{DATA}, label: topics, separator: ' '}}}}", "bce"),
    "numbers": (f"{{regression: {{{DATA}, label: stars}}}}", "mse"),
    "beside": (f"{{sequence_classification: {{{DATA}, labels: [a, b]}}}}", "kl"),
}


@pytest.fixture
def folder(tmp_path):
    """A tiny model, and rows."""
    tiny(tmp_path / "tiny", layers=1)
    for split in ("train", "validation"):
        rows = (
            f"{text},{'ab'[n % 2]},{['a', 'b', 'a b'][n % 3]},{n / 2}"
            for n, text in enumerate(["good", "bad", "nice", "dull", "so", "x", "y", "<i>z</i>"])
        )
        (tmp_path / f"{split}.csv").write_text("\n".join(("text,label,topics,stars", *rows)), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.usefixtures("folder")
def test_a_run_records_the_errors_of_its_models(launch, kind):
    task, soft = TASKS[kind]
    text = SPEC.replace("{TASK}", task).replace("SOFT", soft).replace(", initialize: none", "")
    if kind == "beside":
        text = text.replace("  learn:\n    distiller: {supervised: {model: teacher}}\n", "").replace(
            "    training: {steps: 40, batch_size: 4, optimizer: {adamw: {lr: 0.02}}}\n", ""
        )
    ran = launch(text=text)
    rows = {row.model: row.errors for row in read_table(ran.folder / "table.json")}
    found = rows["student"]
    assert found.compared == 8
    assert all(each.texts[0][0][0] for each in found.differing)
    if kind == "classes":
        assert sum(map(sum, found.matrix)) == 8
        assert [name for name, *_ in found.classes] == ["a", "b"]
        assert rows["teacher"].differing == []
    elif kind == "labels":
        assert found.matrix == []
        assert [name for name, *_ in found.classes] == ["a", "b"]
    elif kind == "numbers":
        assert len(found.points[0][1]) == 8
        assert found.differ is None
        assert found.differing
    else:
        assert found.against == "teacher"
        assert rows["teacher"] is None
    (end,) = ran.of(RunFinished)
    assert all("errors" not in row for row in end.table.values())
    assert "dull" not in (ran.folder / "events.jsonl").read_text()

    page = report.html(report.read(ran.folder), Plugins())
    (ran.folder / "table.json").unlink()
    again = launch(text=text)
    assert read_table(again.folder / "table.json")[-1].errors == found
    assert "<i>z" not in page


APART = """\
kdspec: 1
name: apart
seed: 2
tasks:
  rows: {TASK}
models:
  teacher: {transformers: {path: ./teacher, READS}}
  student: {transformers: {path: ./student, READS}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, LOSS}}
    training: {steps: 1, batch_size: 4, optimizer: {adamw: {lr: 0.0001}}}
"""
QUESTIONS = [
    {"title": "t", "paragraphs": [{
        "context": f"<i>{word}</i> is good and bad is not",
        "qas": [{"id": word, "question": f"what is {word}", "answers": [{"text": word, "answer_start": 3}]}],
    }]} for word in ("nice", "dull", "so", "x")
]  # fmt: skip
ROWS_OF = "data: {json: {train: q.jsonl, validation: q.jsonl}}, documents: [yes, no]"
SETS = "evaluate: {sts: {data: {csv: {validation: train.csv}}, text: [text, label], score: stars}}"
SOFT = "soft_labels: {loss: kl}"
TEXTS = {
    "queries": ("ranking", f"{ROWS_OF}, positives: 'yes'", SOFT, "reads: each"),
    "unlabelled queries": ("ranking", ROWS_OF, SOFT, "reads: each"),
    "questions": ("question_answering", "data: {squad: {train: s.json, validation: s.json}}", SOFT, "readout: null"),
    "pairs": ("embedding", f"data: {{csv: {{train: train.csv}}}}, text: text, {SETS}",
        "matches: [{feature: embedding, loss: cos}]", "readout: {pooling: mean}"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXTS)
def test_a_run_records_where_its_student_and_teacher_differ(launch, folder, kind):
    name, fields, loss, reads = TEXTS[kind]
    counted = kind.split()[-1]
    for seed, model in enumerate(("teacher", "student")):
        tiny(folder / model, layers=1, seed=seed)
    (folder / "s.json").write_text(json.dumps({"version": "1", "data": QUESTIONS}), encoding="utf-8")
    rows = ({"query": f"which is {word}", "yes": word, "no": ["<i>bad", "dull so", "good x"]} for word in ("nice", "y"))
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = APART.replace("{TASK}", f"{{{name}: {{{fields}}}}}").replace("LOSS", loss).replace("READS", reads)
    ran = launch(text=text)
    models = {row.model: row.errors for row in read_table(ran.folder / "table.json")}
    found = models["student"]
    assert models["teacher"] is None
    assert found.counted == counted
    assert found.compared
    assert found.differing
    assert all(each.texts and each.about for each in found.differing)
    page = report.html(report.read(ran.folder), Plugins())
    assert "Where student and teacher differ" in page
    assert f"validation {counted}" in page
    assert "<i>" not in page
    assert "<i>" not in (ran.folder / "events.jsonl").read_text(encoding="utf-8")


OLD = {
    "model": "student", "role": "student", "task": "rows", "split": "test", "metrics": {}, "agreement": None,
    "agrees_on": None, "parameters": 1, "bytes": 1, "latency_ms": None, "lower_is_better": [],
    "selected_by": "accuracy", "rows": 1, "labelled": 1,
}  # fmt: skip


def test_a_table_of_an_earlier_version_has_no_errors(tmp_path):
    (tmp_path / "table.json").write_text(json.dumps([OLD]))
    assert read_table(tmp_path / "table.json")[0].errors is None


@pytest.mark.parametrize(
    "errors",
    [
        {"matrix": [["1"]]}, {"matrix": [[-1]]}, {"classes": [["a", 2.0, None, None, 1, None]]}, {"classes": [["a", 1.0]]},
        {"points": [["x", [[1.0, float("inf")]]]]}, {"points": [["x", [[float("nan"), 1.0]]]]},
        {"differing": [{"row": 1, "texts": ["text"], "answers": []}]}, {"against": "nothing"}, {"number": "guess"},
        {"differing": [{"row": 1, "texts": [], "answers": [], "right": [[1, "yes"]]}]},
    ],
)  # fmt: skip
def test_damaged_errors_are_refused(tmp_path, errors):
    (tmp_path / "table.json").write_text(json.dumps([OLD | {"errors": errors}]))
    with pytest.raises(FindingError, match="KD003"):
        read_table(tmp_path / "table.json")


def test_errors_have_no_content_by_default():
    assert RowErrors() == RowErrors("rows", "labels", classes=[], matrix=[], differing=[])
