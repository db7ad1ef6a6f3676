"""Teachers that are known by their recorded scores."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
from toy_scorers import ToyScorer

from kdspec.builtins.models.recorded import Recorded
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.engine.run.event_log import read
from kdspec.events import StepDone
from kdspec.networks.recorded_scores import RecordedScores
from kdspec.testing import check, check_model, run, tiny

SPEC = """\
kdspec: 1
name: search
tasks:
  search:
    ranking: {data: {json: {train: train.jsonl, validation: validation.jsonl}}, documents: documents, positives: best}
models:
  teacher: {recorded: {scores: scores}}
  student: {toy_scorer: {path: tiny}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: {student: 0.5, teacher: 1}}
        hard_labels: {weight: 0.25}
    training: {epochs: 2, batch_size: 10, shuffle: false, evaluate: null, log_every: 1, optimizer: {adamw: {lr: 0.01}}}
"""
WORDS = ["ab", "cd", "ef", "gh", "ij", "kl", "good", "bad", "film", "plot"]
TASK = "tasks.search.ranking"
TRAINING = "stages.distil.training"
WITHOUT = (2, 3, 7)
"""The rows without scores."""


def rows(number, seed=0):
    drawn = random.Random(seed)
    made = []
    for row in range(number):
        documents = [" ".join(drawn.sample(WORDS, 3)) for _ in range(2 + row % 3)]
        scores = [drawn.gauss(0, 2) for _ in documents]
        made.append(
            {
                "query": " ".join(drawn.sample(WORDS, 2)),
                "documents": documents,
                "best": documents[0],
                "scores": None if row in WITHOUT else scores,
            }
        )
    return made


def write(folder, split, written):
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))


@pytest.fixture
def home(tmp_path):
    tiny(tmp_path / "tiny")
    for split, number in (("train", 10), ("validation", 6)):
        write(tmp_path, split, rows(number, len(split)))
    return tmp_path


def first_step(folder, *sets):
    result = run(SPEC, folder / "runs", ToyScorer, folder=folder, sets=sets, restart=True)
    records = read(result.folder / "events.jsonl")
    return next(each.event for each in records if isinstance(each.event, StepDone)), result


def test_it_is_a_model():
    check_model(Recorded(scores=["scores"]))
    assert Recorded.model_validate({"scores": "a"}).records() == {("scores", 0): "a"}
    assert Recorded().records() == {}
    found = RecordedScores()(torch.tensor([[1.0, math.nan], [-2.0, 0.5]]))
    assert found["logits"].tolist() == [[1.0, 0.0], [-2.0, 0.5]]


def test_rows_without_scores_count_in_no_soft_label_and_in_all_hard_ones(home):
    with_all, _ = first_step(home)
    scored = [row for row in rows(10, len("train")) if row["scores"] is not None]
    assert len(scored) == 7
    write(home, "train", scored)
    alone, _ = first_step(home, f"{TRAINING}.batch_size=7")
    assert with_all.terms["soft_labels"] == pytest.approx(alone.terms["soft_labels"], rel=1e-6)
    assert with_all.terms["hard_labels"] != pytest.approx(alone.terms["hard_labels"], rel=1e-3)


@pytest.mark.parametrize("loss", ["kl", "ce", "mse", "margin_mse", "ranknet", "list_mle"])
def test_the_mean_over_scored_rows_does_not_depend_on_the_micro_batches(home, loss):
    soft = f"stages.distil.distiller.general.soft_labels.loss={loss}"
    whole, _ = first_step(home, soft)
    # the second micro-batch of the last cut has no scores at all
    write(home, "train", [row for place in (0, 1, 4, 5, 6, 8, 9, 2, 3, 7) for row in [rows(10, len("train"))[place]]])
    for cut in (f"{TRAINING}.batch_size=5", f"{TRAINING}.batch_size=2"):
        found, _ = first_step(home, soft, cut, f"{TRAINING}.accumulate={2 if cut.endswith('5') else 5}")
        assert found.terms == pytest.approx(whole.terms, rel=1e-5)
        assert found.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)


def test_it_is_evaluated_on_the_rows_that_have_scores_and_not_cached(home):
    _, result = first_step(home, f"{TRAINING}.evaluate={{every_epochs: 1}}", f"{TRAINING}.teacher_cache={{use: on}}")
    teacher, student = result.table
    assert (teacher.model, teacher.role) == ("teacher", "teacher")
    assert (teacher.parameters, teacher.bytes, teacher.latency_ms) == (None, None, None)
    assert None not in (student.parameters, student.bytes, student.latency_ms)
    scored = [row for row in rows(6, len("validation")) if row["scores"] is not None]
    assert len(scored) == 4
    first = [max(row["scores"]) == row["scores"][0] for row in scored]
    assert teacher.metrics["accuracy"] == pytest.approx(sum(first) / len(first))
    assert student.metrics["accuracy"] is not None
    log = (result.folder / "events.jsonl").read_text()
    assert "its answers are recorded in the rows" in log


def test_a_split_without_scores_has_no_metrics_of_it(home):
    written = [{key: value for key, value in row.items() if key != "scores"} for row in rows(6)]
    write(home, "validation", written)
    _, result = first_step(home)
    teacher, student = result.table
    assert teacher.metrics == {}
    assert student.metrics["ndcg@10"] > 0


def test_train_without_any_score_is_an_error(home):
    write(home, "train", [{**row, "scores": None} for row in rows(10)])
    with pytest.raises(DiagnosticError, match="no row of `train` has scores"):
        first_step(home)


def checked(home, *sets):
    return check(SPEC, ToyScorer, folder=home, sets=sets)


@pytest.mark.parametrize(
    ("sets", "code", "words"),
    [
        (("models.teacher={recorded: {}}",), "KD102", "have no column: neither `teacher` nor task `search` names one"),
        ((f"{TASK}.scores=other",), "KD107", "`teacher` names its scores `scores`, and task `search` reads `other`"),
        (("models.teacher.recorded.scores=scoers",), "KD312", "`scoers`"),
        (
            ("models.student={recorded: {scores: scores}}", "models.teacher={toy_scorer: {path: tiny}}"),
            "KD306",
            "stage `distil` trains `student`, and a model of `recorded` has no weights",
        ),
        (
            ("tasks.search={sequence_classification: {data: {json: {train: train.jsonl}}, text: query, label: best}}",),
            "KD313",
            "`teacher` cannot teach task `search`: it has recorded scores of candidates, and the task has classes of which one",
        ),
    ],
)
def test_what_cannot_teach_is_said(home, sets, code, words):
    found = checked(home, *sets)
    assert [(each.code, words in each.message) for each in found.errors if each.code == code] == [(code, True)]


@pytest.mark.parametrize(
    "sets",
    [
        (),
        (f"{TASK}.scores=scores",),
        (f"{TASK}.scores=scores", "models.teacher={recorded: {}}"),
        (f"{TASK}.margins=scores", "models.teacher={recorded: {}}"),
    ],
)
def test_the_column_is_named_by_the_model_or_by_the_task(home, sets):
    found = checked(home, *sets)
    assert not found.errors
    task = found.plan.spec.tasks["search"]
    assert task.answer_columns() == ("scores",)


def test_of_several_teachers_those_that_have_answered_count(home):
    several = (
        "models.other={toy_scorer: {path: tiny}}",
        "stages.distil.distiller={multi_teacher: {teachers: [teacher, other], student: student, soft_labels: {loss: kl}}}",
    )
    with_all, _ = first_step(home, *several)
    every = rows(10, len("train"))
    write(home, "train", [row for row in every if row["scores"] is not None])
    both, _ = first_step(home, *several, f"{TRAINING}.batch_size=7")
    write(home, "train", [row for row in every if row["scores"] is None])
    alone = ("stages.distil.distiller={general: {teacher: teacher, student: student, soft_labels: {loss: kl}}}",)
    other, _ = first_step(home, "models.teacher={toy_scorer: {path: tiny}}", *alone, f"{TRAINING}.batch_size=3")
    mean = (7 * both.terms["soft_labels"] + 3 * other.terms["soft_labels"]) / 10
    assert with_all.terms["soft_labels"] == pytest.approx(mean, rel=1e-5)
