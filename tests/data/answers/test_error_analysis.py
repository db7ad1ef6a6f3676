"""Scores by class, confusions, and rows on which two models differ."""

from __future__ import annotations

import math

import pytest
import torch
from task_batches import states_of

from kdspec.builtins.tasks.multi_label import LabelMetrics
from kdspec.builtins.tasks.regression import NumberMetrics
from kdspec.builtins.tasks.sequence_classification import ClassMetrics
from kdspec.data.answers.beside_teacher import BesideTeacher
from kdspec.data.answers.error_analysis import (
    DIFFERING,
    LISTED,
    MATRIX,
    PAIRS,
    PARTS,
    POINTS,
    ComparedAnswers,
    Counts,
    Decisions,
    class_scores,
    confusions,
    differing,
    differing_decisions,
    scatter,
)

NAMES = ("bad", "good", "odd")


def answers(rows, classes, truth, sure, parts=None):
    rows = torch.tensor(rows)
    parts = torch.zeros_like(rows) if parts is None else torch.tensor(parts)
    return ComparedAnswers(
        rows, parts, torch.tensor(classes), torch.tensor(truth), None if sure is None else torch.tensor(sure)
    )


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = torch.Generator().manual_seed(1)
    predicted, truth = torch.randint(3, (2, 200), generator=generator)
    evaluator = ClassMetrics("accuracy", 3)
    found = evaluator.error_analysis(states_of(evaluator, [torch.eye(3)[predicted]], [truth]), (), NAMES)
    expected = metrics.precision_recall_fscore_support(truth, predicted)
    for place, values in enumerate(expected):
        assert [row[1 + place] for row in found["classes"]] == pytest.approx(list(values), abs=1e-6)
    assert found["matrix"] == metrics.confusion_matrix(truth, predicted).tolist()
    assert found["names"] == list(NAMES)


def test_a_score_without_a_denominator_is_none():
    found = class_scores({"never given": Counts(0, 0, 2), "never there": Counts(0, 3, 0), "neither": Counts(0, 0, 0)})
    assert [row[1:4] for row in found["classes"]] == [[None, 0.0, 0.0], [0.0, None, 0.0], [None, None, None]]


def test_the_teachers_f1_is_beside_that_of_the_class():
    found = class_scores({"a": Counts(1, 1, 1), "b": Counts(1, 1, 1)}, {"a": Counts(1, 2, 2)})
    assert [row[5] for row in found["classes"]] == [0.5, None]


def test_of_many_classes_those_of_lowest_f1_are_listed():
    counts = {str(n): Counts(n, 100, 100) for n in range(LISTED + 30)}
    found = class_scores({**counts, "nowhere": Counts(0, 0, 0)})
    assert [row[0] for row in found["classes"]] == [str(n) for n in range(LISTED)]
    assert found["unlisted"] == 31


@pytest.mark.parametrize("classes", [MATRIX, MATRIX + 1])
def test_many_classes_have_their_most_confused_pairs_in_place_of_a_matrix(classes):
    names = [f"c{n}" for n in range(classes)]
    truth = torch.tensor([0] * 5 + [1] * 3 + list(range(classes)))
    predicted = torch.tensor([2] * 5 + [0] * 3 + [*range(1, classes), 0])
    found = confusions(predicted, truth, names)
    if classes == MATRIX:
        assert sum(map(sum, found["matrix"])) == len(truth)
        assert found["matrix"][0][2] == 5
        assert found["confused"] == []
    else:
        assert found["matrix"] == found["names"] == []
        assert found["confused"][:2] == [["c0", "c2", 5], ["c1", "c0", 3]]
        assert len(found["confused"]) == PAIRS


def test_right_answers_are_no_confusion():
    truth = torch.arange(MATRIX + 5)
    assert confusions(truth, truth, [str(n) for n in truth])["confused"] == []


def test_rows_on_which_both_are_sure_come_first():
    mine = answers([0, 1, 2, 3], [0, 1, 1, 0], [0, 0, -100, 0], [0.6, 0.9, 0.8, 0.9])
    theirs = answers([3, 2, 1, 0], [0, 0, 0, 1], [0, -100, 0, 0], [0.99, 0.95, 0.7, 0.6])
    found = differing(mine, theirs, NAMES)
    assert (found["compared"], found["differ"]) == (4, 3)
    assert [each["row"] for each in found["differing"]] == [2, 1, 0]
    assert found["differing"][0]["answers"] == [[0, None, "good", 0.8, "bad", 0.95]]
    assert found["differing"][1]["answers"] == [[0, "bad", "good", 0.9, "bad", 0.7]]


def test_equally_sure_rows_are_in_their_order_whatever_the_batches_were():
    mine = answers([5, 3, 4], [0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.5])
    theirs = answers([4, 5, 3], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5])
    assert [each["row"] for each in differing(mine, theirs, NAMES)["differing"]] == [3, 4, 5]


def test_rows_that_only_one_has_answered_are_not_compared():
    mine, theirs = (answers([row, 2], [n, 1], [0, 0], [0.9, 0.9]) for n, row in enumerate((0, 1)))
    assert differing(mine, theirs, NAMES) == {"compared": 1, "differ": 0, "differing": []}
    assert differing(mine, answers([7], [0], [0], [0.5]), NAMES) == {}


def test_there_is_a_limit_of_rows_and_of_answers_of_a_row():
    rows = [n // 10 for n in range(10 * (DIFFERING + 5))]
    parts = [n % 10 for n in range(len(rows))]
    mine, theirs = (answers(rows, [n] * len(rows), [0] * len(rows), [0.9] * len(rows), parts) for n in (0, 1))
    found = differing(mine, theirs, NAMES)
    assert found["differ"] == DIFFERING + 5
    assert [each["row"] for each in found["differing"]] == list(range(DIFFERING))
    assert {len(each["answers"]) for each in found["differing"]} == {PARTS}


def test_numbers_differ_in_standard_deviations_of_the_teachers():
    mine = answers([0, 0, 1, 1], [1.0, 100.0, 3.0, 100.0], [1.0, math.nan, 2.0, 90.0], None, parts=[0, 1, 0, 1])
    theirs = answers([0, 0, 1, 1], [1.0, 50.0, 2.0, 150.0], [1.0, math.nan, 2.0, 90.0], None, parts=[0, 1, 0, 1])
    found = differing(mine, theirs, (), ["stars", "price"])
    assert found["differ"] is None
    assert [each["row"] for each in found["differing"]] == [1, 0]
    assert found["differing"][0]["answers"][0] == ["stars", "2", "3", None, "2", None]
    assert found["differing"][1]["answers"] == [["price", None, "100", None, "50", None]]


def test_a_number_that_is_not_finite_is_no_distance():
    mine = answers([0, 1, 2], [math.nan, math.inf, 1.0], [0.0, 0.0, 0.0], None)
    theirs = answers([0, 1, 2], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0], None)
    assert [each["row"] for each in differing(mine, theirs, (), ["x"])["differing"]] == [2]


def test_a_scatter_has_the_known_numbers_and_not_too_many():
    truth = torch.tensor([[1.0], [math.nan], [0.5], [2.0]])
    found = scatter(torch.tensor([[1.5], [0.0], [0.25], [math.inf]]), truth, ["stars"])
    assert found == {"points": [["stars", [[0.5, 0.25], [1.0, 1.5]]]]}
    many = torch.rand(5 * POINTS + 7, 1, generator=torch.Generator().manual_seed(1))
    ((_, points),) = scatter(many, many, ["x"])["points"]
    assert POINTS / 2 <= len(points) <= POINTS
    assert points == sorted(points)


def test_rows_without_a_label_are_compared_with_the_teacher_alone():
    evaluator = ClassMetrics("accuracy", 2)
    labels = torch.tensor([0, -100])
    mine = states_of(evaluator, [torch.tensor([[2.0, 0], [3, 0]])], [labels])
    theirs = states_of(evaluator, [torch.tensor([[2.0, 0]]), torch.tensor([[0, 1.0]])], [labels[:1], labels[1:]])
    found = evaluator.error_analysis(mine, theirs, ("a", "b"))
    assert found["matrix"] == [[1, 0], [0, 0]]
    assert found["differing"][0]["answers"][0][1:3] == [None, "a"]


def test_a_model_with_other_classes_is_not_compared():
    evaluator = ClassMetrics("accuracy", 2)
    mine = states_of(evaluator, [torch.eye(2)], [torch.tensor([0, 1])])
    theirs = states_of(evaluator, [torch.eye(3)[:2]], [torch.tensor([0, 1])])
    assert "differing" not in evaluator.error_analysis(mine, theirs, ("a", "b"))
    assert evaluator.error_analysis(theirs, mine, ("a", "b")) == {}


def test_labels_are_decided_one_by_one():
    evaluator = LabelMetrics("micro_f1", 0.5)
    labels = torch.tensor([[1.0, 0], [math.nan, 1]])
    mine = states_of(evaluator, [torch.tensor([[2.0, 3], [1, 2]])], [labels])
    theirs = states_of(evaluator, [torch.tensor([[2.0, -3], [-1, 2]])], [labels])
    found = evaluator.error_analysis(mine, theirs, ("x", "y"))
    assert found["classes"] == [["x", 1.0, 1.0, 1.0, 1, 1.0], ["y", 0.5, 1.0, pytest.approx(2 / 3), 1, 1.0]]
    assert [(each["row"], each["answers"][0][:3], each["answers"][0][4]) for each in found["differing"]] == [
        (0, ["y", "no", "yes"], "no"), (1, ["x", None, "yes"], "no"),
    ]  # fmt: skip
    assert "matrix" not in found


def test_numbers_have_a_scatter_and_their_differences():
    evaluator = NumberMetrics("pearson")
    labels = torch.tensor([[1.0], [2.0]])
    mine, theirs = (
        states_of(evaluator, [torch.tensor(values)], [labels]) for values in ([[1.0], [3.0]], [[1.0], [2.0]])
    )
    found = evaluator.error_analysis(mine, theirs, ("stars",))
    assert found["points"] == [["stars", [[1.0, 1.0], [2.0, 3.0]]]]
    assert [each["row"] for each in found["differing"]] == [1]


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_without_labels_a_model_is_compared_with_its_teacher(kind):
    evaluator = BesideTeacher(kind)
    logits = torch.tensor([[2.0, -1.0], [-2.0, 1.0]])
    mine, theirs = (states_of(evaluator, [values], [torch.zeros(2)]) for values in (logits, logits[[0, 0]]))
    found = evaluator.error_analysis(mine, theirs, ("a", "b"))
    assert [each["row"] for each in found["differing"]] == [1]
    assert all(answer[1] is None for each in found["differing"] for answer in each["answers"])
    if kind == "classes":
        assert found["against"] == "teacher"
        assert found["matrix"] == [[1, 1], [0, 0]]


def test_equal_decisions_are_compared_and_none_is_shown():
    mine = Decisions(torch.tensor([1, 0]), torch.eye(2).bool(), torch.zeros(2, 2), torch.ones(2, 2))
    theirs = Decisions(torch.tensor([0, 1]), torch.eye(2).bool().flip(0), torch.zeros(2, 2), torch.ones(2, 2))
    assert differing_decisions(mine, theirs, ("a", "b")) == {"compared": 2, "differ": 0, "differing": []}
    elsewhere = theirs._replace(rows=torch.tensor([7, 8]))
    assert differing_decisions(mine, elsewhere, ("a", "b")) == {}
