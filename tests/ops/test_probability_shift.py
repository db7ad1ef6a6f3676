"""Probability shift."""

from __future__ import annotations

import pytest
import torch

from kdspec.ops.probability_shift import probability_shift


@pytest.mark.parametrize("shape", [(6,), (2, 3)], ids=["rows", "tokens"])
def test_the_largest_goes_to_the_label_and_negative_labels_change_nothing(shape):
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    labels = [0, 3, -100, 2, -1, 1]
    expected = teacher.tolist()
    for row, label in zip(expected, labels, strict=True):
        if label >= 0:
            top = row.index(max(row))
            row[top], row[label] = row[label], row[top]
    before = teacher.clone()
    shifted = probability_shift(teacher.reshape(*shape, 4), torch.tensor(labels).reshape(shape))
    assert shifted.shape == (*shape, 4)
    assert shifted.reshape(6, 4).tolist() == expected
    assert torch.equal(teacher, before), "the teacher's tensor is not written to"


def test_a_teacher_that_is_right_stays_as_it_is():
    teacher = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.bfloat16)
    assert torch.equal(probability_shift(teacher, torch.tensor([1])), teacher)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(AssertionError, match="do not go together"):
        probability_shift(torch.ones(2, 3), torch.zeros(3, dtype=torch.long))
