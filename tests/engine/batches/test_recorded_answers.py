"""What is told of all recorded answers when a run reads them."""

from __future__ import annotations

import json

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.testing import plan, registry, tiny

SPEC = """\
kdspec: 1
name: answers
tasks:
  mail: {sequence_classification: {data: {json: {train: train.jsonl, validation: more.jsonl}}, text: text, label: label}}
models:
  judge: {recorded: {probabilities: judge}}
  student: {transformers: {path: tiny}}
stages:
  distil:
    distiller: {general: {teacher: judge, student: student}}
    training: {epochs: 1}
"""
HALF = {"ham": 0.5, "spam": 0.5}


def told(folder, train, more=(HALF, HALF), *sets):
    tiny(folder / "tiny", layers=1)
    for name, answers in (("train", train), ("more", more)):
        written = [{"text": "a b", "label": ("ham", "spam")[n % 2], "judge": each} for n, each in enumerate(answers)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    found = []
    built_tasks(plan(SPEC, registry(), folder=folder, sets=sets), found.append)
    return [(each.code, each.severity, each.line, ".".join(map(str, each.at))) for each in found]


def test_nothing_where_all_is_well(tmp_path):
    assert told(tmp_path, [HALF, HALF]) == []


def test_rows_without_an_answer(tmp_path):
    assert told(tmp_path, [HALF, None, None, HALF], [None, None]) == [
        ("KD316", "note", line, "models.judge.recorded.probabilities")
        for line in (
            "2 of 4 rows of `train` have no answer of `judge`; they are left out of its soft labels",
            "2 of 2 rows of `validation` have no answer of `judge`; it is not evaluated on them",
        )
    ]


def test_no_answer_at_all(tmp_path):
    with pytest.raises(FindingError, match="no row of `train` has an answer of `judge`") as caught:
        told(tmp_path, [None, None])
    assert caught.value.findings[0].at == ("models", "judge", "recorded", "probabilities")


def test_the_order_of_lists(tmp_path):
    found = told(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
    assert found[0][1:3] == (
        "note",
        "the lists of `train` in `judge` are read in the order `ham`, `spam`; write `labels: [ham, spam]` in task `mail`, or mappings of classes in the rows",
    )
    assert (
        told(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2, "tasks.mail.sequence_classification.labels=[ham, spam]")
        == []
    )


def test_probabilities_in_place_of_logits(tmp_path):
    found = told(
        tmp_path, [{"ham": 0.9, "spam": 0.1}] * 3, [{"ham": 5, "spam": 1}] * 2, "models.judge.recorded={logits: judge}"
    )
    assert [(code, severity) for code, severity, _, _ in found] == [("KD316", "warning")]
    assert "they look like probabilities" in found[0][2]


def test_sums_near_one(tmp_path):
    found = told(tmp_path, [{"ham": 0.9, "spam": 0.11}, HALF])
    assert found[0][1:3] == (
        "note",
        "the probabilities of 1 of 2 rows of `train` in `judge` sum to 1.01 to 1.01; each is divided by the sum of its row; the first is row 1",
    )


def test_a_row_of_another_split_is_named(tmp_path):
    with pytest.raises(FindingError, match=r"row 2 of `validation` has probabilities in `judge` that sum to 0\.6"):
        told(tmp_path, [HALF, HALF], [HALF, {"ham": 0.3, "spam": 0.3}])


def test_classes_are_those_of_the_rows(tmp_path):
    with pytest.raises(FindingError, match="row 2 of `train` has the class `junk` in `judge`"):
        told(tmp_path, [HALF, {"ham": 0.5, "junk": 0.5}])
