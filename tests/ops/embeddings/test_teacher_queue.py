"""The queue of teacher vectors: whole steps, the latest ones, saved and loaded with the module."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from kdspec.diagnostics.fault import Fault
from kdspec.ops.embeddings.losses import contrastive
from kdspec.ops.embeddings.teacher_queue import QueuedContrastive


def vectors(rows, seed):
    return torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind()


def kept(loss):
    return loss.vectors[loss.steps > 0]


def test_the_first_step_is_that_without_a_queue():
    student, teacher = vectors(3, 0)
    assert QueuedContrastive(0.1, 8)(student, teacher) == contrastive(student, teacher, 0.1)


def test_later_steps_have_the_vectors_of_earlier_ones_as_negatives():
    loss = QueuedContrastive(0.1, 8)
    steps = [vectors(3, seed) for seed in range(3)]
    found = [loss(*step) for step in steps]
    earlier = normalize(torch.cat([steps[0][1], steps[1][1]]))
    torch.testing.assert_close(found[2], contrastive(*steps[2], 0.1, earlier))


def test_a_step_that_no_longer_fits_is_dropped_as_a_whole():
    loss = QueuedContrastive(0.1, 7)
    steps = [vectors(rows, seed) for seed, rows in enumerate((3, 3, 2, 5))]
    held = []
    for step in steps:
        loss(*step)
        held.append(len(kept(loss)))
    assert held == [3, 6, 5, 7]
    torch.testing.assert_close(kept(loss), normalize(torch.cat([steps[2][1], steps[3][1]])))


def test_the_order_of_the_rows_within_a_step_changes_nothing():
    one, other = QueuedContrastive(0.1, 7), QueuedContrastive(0.1, 7)
    for seed, rows in enumerate((3, 3, 2, 5, 4)):
        student, teacher = vectors(rows, seed)
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(one(student, teacher), other(student[order], teacher[order]))


def test_it_resumes_from_its_state_bit_for_bit():
    steps = [vectors(3, seed) for seed in range(4)]
    loss, resumed = QueuedContrastive(0.1, 8), QueuedContrastive(0.1, 8)
    for step in steps[:2]:
        loss(*step)
    resumed.load_state_dict(loss.state_dict())
    for step in steps[2:]:
        assert torch.equal(loss(*step), resumed(*step))
    QueuedContrastive(0.1, 8).load_state_dict(QueuedContrastive(0.1, 8).state_dict())


def test_a_step_larger_than_the_queue_is_an_error():
    with pytest.raises(Fault, match="a step of 9 rows does not fit into a queue of 8") as caught:
        QueuedContrastive(0.1, 8)(*vectors(9, 0))
    assert caught.value.help == "write `queue: 36`, or leave it out"
