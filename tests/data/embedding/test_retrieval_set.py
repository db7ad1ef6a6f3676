"""A corpus on which the vectors of the task `embedding` are evaluated."""

from __future__ import annotations

import json
import math

import pytest
import torch

from kdspec import Batch, Features
from kdspec.api.kinds.context import TaskContext
from kdspec.builtins.datasets.files import Csv
from kdspec.builtins.tasks.embedding import Embedding
from kdspec.diagnostics.fault import Fault
from kdspec.testing import check

DOCUMENTS = {"d1": "red", "d2": "blue", "d3": "green", "d4": "red"}
QUERIES = {"q1": "rose", "q2": "sky", "q3": "red", "q4": "not judged"}
RELEVANT = "query-id\tcorpus-id\tscore\nq1\td4\t2\nq1\td3\t1\nq2\td2\t1\nq3\td1\t1\n"
VECTORS = {"red": [1.0, 0.0], "blue": [0.0, 2.0], "green": [0.9, 0.9], "rose": [5.0, 0.5], "sky": [0.1, 0.1]}
RETRIEVE = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "relevant": "relevant.tsv"}
NAMES = ("ndcg@10", "mrr@10", "recall@100", "map")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts.csv").write_text("text\na\nb\n")
    for name, texts in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = (json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items())
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "relevant.tsv").write_text(RELEVANT)
    return tmp_path


def task(**sets):
    return Embedding(data=Csv(train=["texts.csv"]), text="text", evaluate=sets or {"colours": RETRIEVE})


def built(folder, **sets):
    return task(**sets).build(TaskContext(folder=folder))


def states(made, vectors=VECTORS, split="validation", rows=None):
    rows = range(made.rows(split)) if rows is None else rows
    texts = made.texts(split)
    embedding = torch.tensor([vectors[texts[row][0]] for row in rows])
    return [made.evaluator(split).add(Features({"embedding": embedding}), Batch(inputs={}, rows=rows))]


def test_the_metrics_are_those_of_the_rankings_by_cosine(folder):
    """rose: red (d1, d4), green, blue, so ranks 2 and 3; sky is as near to green: green, then red, blue, red by document; red: 1."""
    made = built(folder)
    found = made.evaluator("validation").merge(states(made))
    gained = 2 / math.log2(3) + 1 / math.log2(4)
    expected = [gained / (2 + 1 / math.log2(3)), 1 / math.log2(4), 1.0]
    assert found["colours.ndcg@10"] == pytest.approx(sum(expected) / 3)
    assert found["colours.mrr@10"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert found["colours.map"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 3 + 1) / 3)
    assert found["colours.recall@100"] == 1.0
    assert found.keys() == {f"colours.{name}" for name in NAMES}


def test_a_text_is_embedded_once_as_a_query_and_once_as_a_document(folder):
    made = built(folder)
    found = sorted(text for (text,) in made.texts("validation"))
    assert found == ["blue", "green", "red", "red", "rose", "sky"]
    assert made.rows("test") == 0
    assert task().has_split("test") is False


def test_the_first_set_selects(folder):
    made = built(folder)
    assert made.evaluator("validation").primary.name == "colours.ndcg@10"
    assert made.evaluator("validation").metric("map").name == "colours.map"
    assert {"colours.map", "ndcg@10"} < set(task().metric_names())


def test_a_look_at_few_texts_has_no_number(folder):
    made = built(folder)
    found = made.evaluator("validation").merge(states(made, rows=range(2)))
    assert all(math.isnan(value) for value in found.values())
    assert found.keys() == {f"colours.{name}" for name in NAMES}


def test_test_pairs_are_those_of_the_split(folder):
    (folder / "test.tsv").write_text("query-id\tcorpus-id\nq3\td3\n")
    made = built(folder, colours={**RETRIEVE, "relevant": {"validation": "relevant.tsv", "test": "test.tsv"}})
    found = made.evaluator("test").merge(states(made, split="test"))
    assert found["colours.mrr@10"] == pytest.approx(1 / 3)


def test_queries_of_one_model_find_documents_of_another_one(folder):
    made = built(folder)
    evaluator = made.evaluator("validation")
    mine = {text: [-value for value in vector] for text, vector in VECTORS.items()}
    mine["rose"] = [0.0, 1.0]
    found = evaluator.beside(states(made, mine), states(made))
    assert found.keys() == {f"colours.asymmetric.{name}" for name in NAMES}
    # rose is near to blue, then green; what was furthest from sky and red is nearest: red and blue alike, then blue and green.
    assert found["colours.asymmetric.mrr@10"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    wider = {text: [*vector, 0.0] for text, vector in VECTORS.items()}
    assert evaluator.beside(states(made, wider), states(made)) == {}


def test_a_mistake_in_a_file_has_its_place(folder):
    (folder / "relevant.tsv").write_text(RELEVANT + "q1\td9\t1\n")
    with pytest.raises(Fault, match="row 5: `corpus-id` is `d9`") as found:
        built(folder)
    assert found.value.at[:3] == ("evaluate", "colours", "relevant")


SPEC = """\
kdspec: 1
name: colours
tasks:
  texts:
    embedding:
      data: {csv: {train: texts.csv}}
      text: text
      evaluate:
        colours: %s
models:
  teacher: {bigru: {vocabulary: 30}}
  student: {bigru: {vocabulary: 30}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: cos}]}}
    training: {epochs: 1}
"""


@pytest.mark.parametrize(
    ("written", "code", "message"),
    [
        ("{corpus: corpus.jsonl, querys: queries.jsonl, relevant: relevant.tsv}", "KD101", "unknown key `querys`"),
        ("{corpus: corpus.jsonl, queries: queries.jsonl}", "KD102", "missing key `relevant`"),
        ("{corpus: corpus.json, queries: queries.jsonl, relevant: relevant.tsv}", "KD310", "no file `corpus.json`"),
        ("{corpus: texts.csv, queries: queries.jsonl, relevant: {dev: relevant.tsv}}", "KD104", "validation"),
        (
            "{corpus: settings.yaml, queries: queries.jsonl, relevant: relevant.tsv}",
            "KD104",
            "the name ends in none of",
        ),
        ("{data: {csv: {test: texts.csv}}, text: [a, b]}", "KD102", "missing key `score`"),
    ],
)
def test_a_set_that_is_written_wrong(folder, written, code, message):
    (folder / "settings.yaml").write_text("a: 1")
    found = check(SPEC % written, folder=folder).errors
    assert any(each.code == code and message in str(each) for each in found), [str(each) for each in found]
