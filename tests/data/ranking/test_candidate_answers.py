"""Columns of predictions for candidates."""

from __future__ import annotations

import torch

from kdspec import Batch, Features
from kdspec.data.ranking.candidate_answers import CandidateAnswers
from kdspec.data.ranking.ranked_rows import QueryRow


def test_the_best_candidate_and_the_scores_in_the_order_of_the_row():
    rows = [QueryRow("q", ("a", "b", "c"), None, ()), QueryRow("r", ("a", "b"), None, (), (0, 1, 0))]
    features = Features({"logits": torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, -torch.inf]])})
    made = list(CandidateAnswers(rows).of([(features, Batch(inputs={}, rows=(0, 1)))], probabilities=False))
    assert made == [{"answer": "b", "scores": [1.0, 3.0, 2.0]}, {"answer": "a", "scores": [0.5, -1.0, 0.5]}]
