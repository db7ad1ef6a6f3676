"""Models that score candidates: how they read must be told, and what they need must be there before anything is trained."""

from __future__ import annotations

import json

import pytest
from tiny_families import configuration, tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from kdspec.testing.specs import check

SPEC = """\
kdspec: 1
name: search
tasks:
  search:
    ranking:
      data: {{json: {{train: rows.jsonl}}}}
      query: query
      documents: documents
models:
  teacher: {{transformers: {teacher}}}
  student: {{transformers: {student}}}
stages:
  distil:
    distiller: {{general: {{teacher: teacher, student: student, soft_labels: {{loss: kl}}}}}}
    training: {{epochs: 1, batch_size: 2}}
"""
EACH = "{path: ./encoder, reads: each}"


@pytest.fixture
def told(tmp_path):
    """The errors of the spec with these models, as their place, code and message."""
    for labels, name in ((1, "cross"), (3, "classifier"), (None, "encoder")):
        auto = AutoModel if labels is None else AutoModelForSequenceClassification
        auto.from_config(configuration("bert", pad_token_id=0, num_labels=labels or 2)).save_pretrained(tmp_path / name)
        tokenizer(tmp_path / name)
    rows = [{"query": f"w{row}", "documents": ["w1", "w2 w3"]} for row in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def made(teacher=EACH, student=EACH, text=SPEC):
        found = check(text.format(teacher=teacher, student=student), folder=tmp_path).diagnostics
        return [(each.code, each.message, each.help or "") for each in found if each.severity == "error"]

    return made


@pytest.mark.parametrize(
    "written",
    ["{path: ./cross}", "{path: ./cross, reads: each, similarity: maxsim}", EACH, "{like: student, reads: each}"],
)
def test_a_teacher_that_can_score_is_taken(told, written):
    assert told(written) == []


@pytest.mark.parametrize("written", ["{path: ./encoder}", "{like: student}"])
def test_a_model_that_does_not_tell_how_it_reads_is_an_error(told, written):
    ((code, message, help_),) = told(written)
    assert code == "KD503"
    assert message == "neither the spec nor its files tell how `teacher` reads a query and its candidates"
    assert "`reads: pair`" in help_
    assert "`reads: each`" in help_


def test_a_pair_teacher_without_a_head_is_refused(told):
    ((code, message, help_),) = told("{path: ./encoder, reads: pair}")
    assert code == "KD317"
    assert message == (
        "`teacher` reads pairs, for which it needs a head with one number; its files are of a `BertModel`, which has none"
    )
    assert "train it in an earlier stage with `distiller: {supervised: {model: teacher}}`" in help_
    assert "`reads: each`, needs no head" in help_


def test_a_pair_teacher_with_a_head_of_classes_is_refused(told):
    ((code, message, _),) = told("{path: ./classifier, reads: pair}")
    assert code == "KD317"
    assert message.endswith("its files have one with 3 classes")


def test_a_student_gets_a_head_that_it_lacks(told):
    assert told(student="{path: ./encoder, reads: pair}") == []
    assert told(student="{path: ./classifier, reads: pair}") == []


@pytest.mark.parametrize("key", ["similarity: dot", "scale: 3"])
def test_a_cross_encoder_has_no_vectors_to_compare(told, key):
    ((_, message, _),) = told(f"{{path: ./cross, reads: pair, {key}}}")
    assert message == f"`reads: pair` and `{key.partition(':')[0]}` exclude each other"
    ((code, message, _),) = told(f"{{path: ./cross, {key}}}")
    assert code == "KD503"
    assert message.endswith("`teacher` is a cross-encoder")


@pytest.mark.parametrize("key", ["reads: each", "similarity: dot", "scale: 3"])
def test_a_model_of_another_task_has_nothing_to_compare(told, key):
    text = SPEC.replace("ranking:", "sequence_classification:").replace("query: query", "text: query")
    text = text.replace("documents: documents", "label: query")
    ((code, message, _),) = told(student=f"{{path: ./encoder, {key}}}", teacher="{path: ./encoder}", text=text)
    assert code == "KD503"
    assert message == f"`{key.partition(':')[0]}` is for tasks that rank candidates, and `student` is in none"
