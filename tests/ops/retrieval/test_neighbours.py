"""Nearest neighbours by cosine, with ties that count as chance."""

from __future__ import annotations

import math

import pytest
import torch

from kdspec.ops.retrieval import neighbours
from kdspec.ops.retrieval.neighbours import nearest_is_right, same_nearest

AXES = torch.eye(4)


def test_each_vector_finds_its_own():
    right = [[row] for row in range(4)]
    assert nearest_is_right(3 * AXES, AXES, right).tolist() == [1.0] * 4
    assert nearest_is_right(AXES, AXES.flip(0), right).tolist() == [0.0] * 4


def test_the_length_of_a_vector_does_not_matter():
    queries, candidates = torch.tensor([[1.0, 0.1]]), torch.tensor([[0.1, 0.0], [0.0, 100.0]])
    assert nearest_is_right(queries, candidates, [[0]]).tolist() == [1.0]


def test_a_query_may_have_several_right_answers_or_none():
    assert nearest_is_right(AXES[:2], AXES, [[0, 3], []]).tolist() == [1.0, 0.0]


def test_of_equal_vectors_the_right_one_is_found_by_chance():
    equal = torch.ones(5, 3)
    assert nearest_is_right(equal, equal, [[row] for row in range(5)]).tolist() == pytest.approx([0.2] * 5)
    assert nearest_is_right(equal[:1], equal, [[0, 4]]).tolist() == pytest.approx([0.4])


def test_a_vector_that_is_not_a_number_has_no_nearest():
    broken = AXES.clone()
    broken[1] = math.nan
    assert nearest_is_right(broken, AXES, [[row] for row in range(4)]).isnan().tolist() == [False, True, False, False]


def test_chunks_change_nothing(monkeypatch):
    torch.manual_seed(0)
    queries, candidates = torch.randn(23, 4), torch.randn(17, 4)
    right = [[row % 17, (3 * row) % 17] for row in range(23)]
    whole, same = nearest_is_right(queries, candidates, right), same_nearest(queries, queries + torch.randn(23, 4))
    torch.manual_seed(0)
    monkeypatch.setattr(neighbours, "_CHUNK", 100)
    again = torch.randn(23, 4), torch.randn(17, 4)
    assert torch.equal(nearest_is_right(*again, right), whole)
    assert torch.equal(same_nearest(queries, queries + torch.randn(23, 4)), same)


def test_two_models_agree_on_the_nearest_whatever_their_widths():
    points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    wide = torch.cat([points, points], 1)
    assert same_nearest(points, wide).tolist() == [1.0] * 4
    assert same_nearest(points, points[[0, 2, 1, 3]]).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_a_collapsed_model_agrees_with_nobody():
    points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert same_nearest(points, torch.ones(4, 2)).tolist() == pytest.approx([1 / 3] * 4)


def test_nothing_to_compare():
    assert nearest_is_right(AXES[:0], AXES[:0], []).tolist() == []
    assert same_nearest(AXES[:0], AXES[:0]).tolist() == []
