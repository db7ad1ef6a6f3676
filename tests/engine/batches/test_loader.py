"""Rows to batches, and what a task draws for them anew in each epoch."""

from __future__ import annotations

import torch

from kdspec.engine.batches.loader import Loader


class Noisy:
    """Rows of one number, to which each epoch adds another."""

    def rows(self, split):
        return {"train": 4, "unlabelled": 2}.get(split, 0)

    def encode(self, split, tokenizer):
        return [{"x": 10.0 * row + len(split)} for row in range(self.rows(split))]

    def draw(self, examples, generators, tokenizer, *, taught):
        added = [generator.random() + taught for generator in generators]
        return [{"x": example["x"] + noise} for example, noise in zip(examples, added, strict=True)]

    def collate(self, examples, tokenizer):
        return {"x": torch.tensor([example["x"] for example in examples])}


def loader(seed=0, **options):
    tokenizers = {"student": ("one", object()), "teacher": ("two", object())}
    return Loader(Noisy(), "train", tokenizers, unlabelled=True, seed=seed, **options)


def numbers(*args, seed=0, **options):
    return loader(seed, **options).batches(*args)["student"]["x"].tolist()


def test_without_an_epoch_rows_are_as_they_are_encoded():
    assert numbers([0, 3, 4]) == [5.0, 35.0, 10.0]


def test_what_is_drawn_depends_on_seed_epoch_and_row_alone():
    assert numbers([1, 5], 2) == numbers([5, 1], 2)[::-1] == numbers([1], 2) + numbers([5], 2)
    assert numbers([1], 2) != numbers([1], 3)
    assert numbers([1], 2) != numbers([1], 2, seed=1)
    assert numbers([0], 2)[0] - 5 != numbers([1], 2)[0] - 15


def test_every_tokenizer_draws_alike():
    batches = loader().batches([0, 1, 4], 7)
    assert torch.equal(batches["student"]["x"], batches["teacher"]["x"])


def test_a_task_is_told_whether_a_teacher_answers():
    assert numbers([2], 0, taught=True)[0] - numbers([2], 0)[0] == 1.0
