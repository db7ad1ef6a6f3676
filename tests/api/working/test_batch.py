"""A batch: what field paths find in it, and its way to the device."""

from __future__ import annotations

import torch

from kdspec import Batch, FieldPath


def two_fields():
    return Batch(
        inputs={"": {"ids": torch.ones(2, 3)}, "query": {"ids": torch.zeros(2, 4)}},
        targets={"labels": torch.tensor([0, 1])},
        rows=(5, 7),
        units={"rows": 2.0},
        weights=torch.tensor([1.0, 0.5]),
    )


def test_a_field_path_finds_inputs_targets_and_fields_by_name():
    def found(path):
        return FieldPath(path).evaluate(batch=two_fields().named)

    assert found("batch.ids").shape == (2, 3)
    assert found("batch.query.ids").shape == (2, 4)
    assert found("batch.labels != 0").tolist() == [False, True]


def test_all_tensors_have_a_name_of_their_own():
    assert [*two_fields().tensors] == ["ids", "query.ids", "labels", "weights"]


def test_on_another_device_it_is_the_same_but_for_its_tensors():
    batch, moved = two_fields(), two_fields().to("meta")
    assert {tensor.device.type for tensor in moved.tensors.values()} == {"meta"}
    assert (moved.rows, moved.units, [*moved.tensors]) == (batch.rows, batch.units, [*batch.tensors])
