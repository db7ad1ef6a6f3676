"""A built task: what is counted in its batches by default, and a task around another one."""

from __future__ import annotations

import torch

from kdspec import Batch, BuiltTask, Head, Reader, WrappedTask


class Numbers(BuiltTask):
    """Rows of one number."""

    head = Head(labels=("number",))
    length_key = "numbers"

    def rows(self, split):
        return 3

    def encode(self, split, readers):
        return [[{"numbers": [row]} for row in range(self.rows(split))] for _ in readers]

    def collate(self, rows, reader):
        return Batch(inputs={"": {"numbers": torch.tensor([row["numbers"] for row in rows])}})


class Doubled(WrappedTask):
    """The same with twice the rows."""

    def rows(self, split):
        return 2 * super().rows(split)


def test_a_task_with_all_defaults_has_no_hard_loss_and_is_evaluated_by_the_loss():
    task = Numbers()
    assert task.hard_loss({}, task.collate([{"numbers": [1]}], Reader())) == {}
    assert task.evaluator("train").primary.name == "loss"
    assert not task.evaluator("train").primary.higher_is_better


def test_rows_are_the_same_in_every_epoch_unless_a_task_draws_them():
    rows = [{"numbers": [1]}]
    assert Numbers().draw(rows, [], Reader(), taught=True) is rows


def test_a_wrapped_task_delegates_whatever_it_does_not_override():
    task = Doubled(Numbers())
    assert (task.rows("train"), task.head, task.length_key) == (6, Head(labels=("number",)), "numbers")
    (rows,) = task.encode("train", [Reader()])
    assert task.collate(rows, Reader()).named["numbers"].tolist() == [[0], [1], [2]]


def test_a_batch_has_the_units_that_its_task_counts():
    class Twice(WrappedTask):
        def units(self, batch, masks):
            return {**super().units(batch, masks), "labels": 2.0 * len(batch.rows)}

    batch = Batch(inputs={"": {"numbers": torch.ones(4, 1)}}, rows=range(4))
    assert Twice(Numbers()).units(batch, {}) == {"rows": 4, "labels": 8, "labelled": 4, "tokens": 4, "pairs": 4}


def test_readers_are_equal_with_one_tokenizer_and_one_form():
    tokenizer = object()
    assert Reader(tokenizer) == Reader(tokenizer)
    assert len({Reader(tokenizer), Reader(tokenizer), Reader(object()), Reader(tokenizer, form="twice")}) == 3
