"""Columns of predictions for the words of sentences."""

from __future__ import annotations

import torch

from kdspec import Batch, Features
from kdspec.data.answers.tag_answers import TagAnswers


def _batch(*rows):
    """Rows of a batch: the sentence, and the word that begins at each token or None."""
    mask = torch.tensor([[word is not None for word in words] for _, words in rows]).long()
    logits = torch.tensor([[[0.0, float(word or 0)] for word in words] for _, words in rows])
    encoded = [
        {"sentence": sentence, "words": [word for word in words if word is not None]} for sentence, words in rows
    ]
    return Features({"logits": logits}), Batch(inputs={"": {"word_mask": mask}}, encoded=encoded)


def test_words_of_several_rows_and_batches_are_put_together():
    batches = [_batch((0, [None, 0, 1]), (1, [0, None, 1])), _batch((1, [2, 3, None]), (2, [None, None, 0]))]
    rows = list(TagAnswers(["O", "X"], [2, 4, 1]).of(batches, probabilities=False))
    assert [row["answer"] for row in rows] == [["O", "X"], ["O", "X", "X", "X"], ["O"]]
    assert rows[1]["logits"] == [{"O": 0.0, "X": float(word)} for word in range(4)]
    assert all(len(row["confidence"]) == len(row["answer"]) for row in rows)


def test_a_word_without_a_token_has_null():
    batches = [_batch((1, [None, 1, None]))]
    rows = list(TagAnswers(["O", "X"], [1, 3, 2]).of(batches, probabilities=True))
    assert [row["answer"] for row in rows] == [[None], [None, "X", None], [None, None]]
    assert rows[1]["probabilities"][0] is None
    assert set(rows[1]["probabilities"][1]) == {"O", "X"}
