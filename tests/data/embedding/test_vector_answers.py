"""Columns of predictions for vectors."""

from __future__ import annotations

import torch

from kdspec import Batch, Features
from kdspec.data.embedding.vector_answers import VectorAnswers


def test_the_vector_is_a_list():
    features = Features({"embedding": torch.tensor([[0.5, -1.0], [2.0, 0.25]])})
    made = list(VectorAnswers().of([(features, Batch(inputs={}))], probabilities=False))
    assert made == [{"embedding": [0.5, -1.0]}, {"embedding": [2.0, 0.25]}]
