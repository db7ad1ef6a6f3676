"""Teachers in an arithmetic of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_runs import TRAINING

from kdspec.engine.forward.teacher_precision import TeacherPrecision, in_precision
from kdspec.events import StepDone

CPU = torch.device("cpu")
SINGLE = ("models.student.toy.single=true", "models.teacher.toy.single=true")


def losses(ran):
    return [step.loss for step in ran.of(StepDone)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_teacher_with_shorter_weights_teaches_about_the_same(precision, launch):
    exact = launch(*SINGLE, folder="exact")
    short = launch(*SINGLE, f"{TRAINING}.teacher_precision={precision}", folder="short")
    assert losses(short) != losses(exact)
    assert losses(short) == pytest.approx(losses(exact), rel=0.02)
    assert short.weights["out.weight"].dtype == torch.float32


def test_a_teacher_that_has_the_type_already_changes_nothing(launch):
    exact = launch(*SINGLE, folder="exact")
    assert losses(launch(*SINGLE, f"{TRAINING}.teacher_precision=fp32", folder="same")) == losses(exact)


def test_a_teacher_may_be_more_exact_than_its_student(launch):
    mixed = launch(*SINGLE, f"{TRAINING}.precision=bf16", folder="mixed")
    apart = launch(*SINGLE, f"{TRAINING}.precision=bf16", f"{TRAINING}.teacher_precision=fp32", folder="apart")
    assert losses(apart) != losses(mixed)
    assert losses(apart) == pytest.approx(losses(mixed), rel=0.02)


def test_the_model_itself_keeps_its_weights():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    copied = in_precision(model, "bf16", CPU)
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert copied[1].running_mean.dtype == torch.bfloat16
    assert copied[1].num_batches_tracked.dtype == torch.long
    assert not any(p.requires_grad for p in copied.parameters())
    assert in_precision(model, "fp32", CPU) is model
    assert in_precision(nn.Identity(), "bf16", CPU)(3) == 3  # without weights there is nothing to turn


def test_features_are_float32_and_whole_numbers_stay():
    values = {"hidden": {1: torch.ones(2, dtype=torch.bfloat16)}, "labels": torch.ones(2, dtype=torch.long)}
    found = TeacherPrecision("bf16", "cpu").widened(values)
    assert found["hidden"][1].dtype == torch.float32
    assert found["labels"].dtype == torch.long


def test_inputs_take_the_type_of_the_weights_whatever_surrounds_the_call():
    model = nn.Linear(3, 2).bfloat16()
    with torch.autocast("cpu", torch.float16):
        given = TeacherPrecision("bf16", "cpu").run(model, {"input": torch.ones(1, 3)}, {})
    assert given.dtype == torch.bfloat16


def test_inputs_in_a_field_with_a_name_take_it_too():
    class Named(nn.Module):
        def forward(self, query, rows):
            return query["values"].dtype, rows.dtype

    given = {"query": {"values": torch.ones(1, 3)}, "rows": torch.zeros(2, dtype=torch.long)}
    assert TeacherPrecision("bf16", "cpu").run(Named(), given, {}) == (torch.bfloat16, torch.long)
