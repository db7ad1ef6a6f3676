"""Rows to batches, and the random values of a task in each epoch."""

from __future__ import annotations

import torch

from kdspec import Batch, BuiltTask, Reader
from kdspec.engine.batches.loader import Loader
from kdspec.events import StepDone


class Noisy(BuiltTask):
    """Rows of one number, to which each epoch adds another."""

    def rows(self, split):
        return {"train": 4, "unlabelled": 2}.get(split, 0)

    def encode(self, split, readers):
        return [[{"x": 10.0 * row + len(split)} for row in range(self.rows(split))] for _ in readers]

    def draw(self, rows, generators, reader, *, taught):
        added = [generator.random() + taught for generator in generators]
        return [{"x": row["x"] + noise} for row, noise in zip(rows, added, strict=True)]

    def collate(self, rows, reader):
        return Batch(inputs={"": {"x": torch.tensor([row["x"] for row in rows])}})


def loader(seed=0, **options):
    readers = {"student": Reader(object()), "teacher": Reader(object())}
    return Loader(Noisy(), "train", readers, unlabelled=True, seed=seed, **options)


def numbers(*args, seed=0, **options):
    return loader(seed, **options).batches(*args)["student"].named["x"].tolist()


def test_without_an_epoch_rows_are_as_they_are_encoded():
    assert numbers([0, 3, 4]) == [5.0, 35.0, 10.0]


def test_samples_depend_on_seed_epoch_and_row_alone():
    assert numbers([1, 5], 2) == numbers([5, 1], 2)[::-1] == numbers([1], 2) + numbers([5], 2)
    assert numbers([1], 2) != numbers([1], 3)
    assert numbers([1], 2) != numbers([1], 2, seed=1)
    assert numbers([0], 2)[0] - 5 != numbers([1], 2)[0] - 15


def test_every_tokenizer_draws_alike():
    batches = loader().batches([0, 1, 4], 7)
    assert torch.equal(batches["student"].named["x"], batches["teacher"].named["x"])


def test_a_task_gets_whether_a_teacher_labels_the_rows():
    assert numbers([2], 0, taught=True)[0] - numbers([2], 0)[0] == 1.0


def test_models_with_equal_readers_share_their_batch():
    tokenizer = object()
    readers = {"student": Reader(tokenizer), "teacher": Reader(tokenizer), "other": Reader(tokenizer, form="twice")}
    batches = Loader(Noisy(), "train", readers).batches([0, 1])
    assert batches["student"] is batches["teacher"]
    assert batches["student"] is not batches["other"]


def test_a_batch_has_its_row_numbers_and_their_encoding():
    batch = loader().batches([4, 1])["student"]
    assert batch.rows == (4, 1)
    assert [row["x"] for row in batch.encoded] == [10.0, 15.0]


def test_each_batch_goes_to_the_device_once_in_a_step(launch, monkeypatch):
    """Teacher and student read the same tensors, whoever asks for them first."""
    moved, to_device = [], Loader.to_device
    monkeypatch.setattr(Loader, "to_device", lambda self, batches: moved.append(batches) or to_device(self, batches))
    ran = launch("stages.distil.training.accumulate=2")
    assert len(moved) == len({id(batches) for batches in moved})
    drawn = sum(len(step.micro_losses) for step in ran.of(StepDone))
    assert len(moved) == drawn + 1  # the first rows, by which shapes are checked
