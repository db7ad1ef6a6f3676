"""The queries whose candidates two models order differently."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from kdspec import Batch, Features, State
from kdspec.data.answers.beside_teacher import AnswersBesideTeacher
from kdspec.data.ranking.differing_orders import ORDERS, ORDERS_ALONE
from kdspec.data.ranking.ranked_rows import QueryRow
from kdspec.data.ranking.ranking_inputs import targets
from kdspec.data.ranking.ranking_metrics import CandidateMetrics

ROWS = [
    QueryRow("first", ("a", "b", "c"), None, (0,)),
    QueryRow("second", ("d", "e"), None, (0, 1)),
    QueryRow("third", ("f", "g", "h"), None, (2,)),
    QueryRow("fourth", ("i",), None, (0,)),
]
SAME = [[3.0, 2, 1], [2, 1, 0], [3, 2, 1], [1, 0, 0]]


def states(
    scores: list[list[float]], rows: list[QueryRow], *, order: tuple[int, ...] = (0, 1, 2, 3), answered: bool = True
) -> list[State]:
    """The states of these scores, a batch for each row, in any order."""
    found = []
    for number in (each for each in order if each < len(rows)):
        row = rows[number]
        given = {
            "labels": row.positives[0] if row.positives else -100, "positives": list(row.positives),
            "candidates": len(row.documents), "answered": answered or number > 0,
        }  # fmt: skip
        batch = Batch(inputs={}, targets=targets([given]), rows=[number])
        logits: Tensor = torch.tensor([scores[number][: len(row.documents)]])
        found.append(CandidateMetrics(rows).add(Features({"logits": logits}), batch))
    return found


def analysis(mine: list[list[float]], teachers: list[list[float]], rows: list[QueryRow] = ROWS) -> dict:
    evaluator = CandidateMetrics(rows)
    return dict(evaluator.error_analysis(states(mine, rows), states(teachers, rows, order=(3, 0, 2, 1)), ()))


def test_the_query_with_the_most_different_order_comes_first():
    mine = [[2.0, 3, 1], [2, 1, 0], [3, 2, 1], [1, 0, 0]]
    teachers = [[3.0, 2, 1], [2, 1, 0], [1, 2, 3], [2, 0, 0]]
    found = analysis(mine, teachers)
    assert (found["compared"], found["differ"]) == (3, 2)
    assert (found["counted"], found["answer"], found["number"], found["order"]) == (
        "queries", "first passage", "score", ORDERS,
    )  # fmt: skip
    first, second = found["differing"]
    assert first == {
        "row": 2, "texts": ["third"], "about": "Spearman's rho -1.00, nDCG@10 0.50, teacher's 1.00",
        "answers": [["", ["h"], "f", 3.0, "h", 3.0]], "right": [[False, True]],
    }  # fmt: skip
    assert (second["row"], second["about"].partition(",")[0]) == (0, "Spearman's rho 0.50")
    json.dumps(found, allow_nan=False)


def test_of_equal_distances_to_the_teacher_the_one_farther_from_the_labels_comes_first():
    rows = [QueryRow(name, ("a", "b", "c"), None, (place,)) for name, place in (("near", 0), ("far", 2))]
    mine, teachers = [[3.0, 1, 2]] * 2, [[3.0, 2, 1]] * 2
    found = analysis(mine, teachers, rows)
    assert [each["texts"] for each in found["differing"]] == [["far"], ["near"]]
    assert found["differ"] == 0


def test_a_student_that_follows_its_teacher_into_an_error_does_not_differ():
    found = analysis([[1.0, 2, 3], *SAME[1:]], [[0.1, 0.2, 0.3], *SAME[1:]])
    assert found["differing"] == []
    assert found["compared"] == 3


def test_of_several_positives_any_is_right():
    found = analysis([SAME[0], [1.0, 2, 0], *SAME[2:]], SAME)
    ((answer,), (right,)) = (found["differing"][0][name] for name in ("answers", "right"))
    assert answer == ["", ["d", "e"], "e", 2.0, "d", 2.0]
    assert right == [True, True]


def test_without_labels_the_order_alone_counts():
    rows = [QueryRow(row.query, row.documents, None, ()) for row in ROWS]
    evaluator = AnswersBesideTeacher(CandidateMetrics(rows))
    found = dict(evaluator.error_analysis(states([[1.0, 2, 3], *SAME[1:]], rows), states(SAME, rows), ()))
    (row,) = found["differing"]
    assert (row["about"], row["right"]) == ("Spearman's rho -1.00", [[None, None]])
    assert row["answers"][0][1] is None
    assert found["order"] == ORDERS_ALONE


@pytest.mark.parametrize("scores", [[1.0, 1, 1], [math.nan] * 3, [-math.inf, math.inf, math.nan]])
def test_equal_and_non_finite_scores_are_some_order(scores):
    found = analysis([scores, *SAME[1:]], SAME)
    (row,) = found["differing"]
    assert row["row"] == 0
    json.dumps(found, allow_nan=False)


def test_a_query_that_one_of_them_has_not_answered_is_not_compared():
    evaluator = CandidateMetrics(ROWS)
    mine, teachers = states(SAME, ROWS), states([[1.0, 2, 3], *SAME[1:]], ROWS, answered=False)
    assert evaluator.error_analysis(mine, teachers, ())["compared"] == 2


def test_without_a_teacher_or_rows_there_is_none():
    assert CandidateMetrics(ROWS).error_analysis(states(SAME, ROWS), (), ()) == {}
    assert CandidateMetrics().error_analysis(states(SAME, ROWS), states(SAME, ROWS), ()) == {}
