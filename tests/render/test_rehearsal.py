"""What a rehearsal has found, as text."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import pytest

from kdspec.rehearsal.result import (
    Flops,
    Initialization,
    Memory,
    ModelSize,
    Rehearsal,
    RehearsedStage,
    Shape,
    as_data,
)
from kdspec.render.rehearsal import details, model, number, size

STAGE = RehearsedStage(
    name="distil",
    rows=8,
    inputs={"input_ids": Shape((8, 16), "int64")},
    features={
        "teacher": {
            "hidden": (Shape((8, 16, 64), "float32", 0), Shape((8, 16, 64), "float32", 4)),
            "logits": (Shape((8, 2), "float32"),),
        },
        "student": {"blocks": (Shape((8, 16, 64), "float32", 0), Shape((8, 16, 32), "float32", 1))},
    },
    groups={"student": 1_234_567, "projection": 2080},
    unused=("a.weight", "a.bias", "b.weight", "b.bias"),
    flops=Flops(teachers={"teacher": 2_000_000}, forward=1_000_000, losses=0, backward=2_000_000),
    memory=Memory(models=2**20, gradients=2**19, optimizer=2**20, activations=3 * 2**18),
    cache={"teacher": 3000},
)
SIZES = {"teacher": ModelSize(parameters=22_700_000, bytes=90_800_000)}


def told(stage=STAGE):
    data = as_data(Rehearsal(models=SIZES, stages=(stage,)))
    return {name: text.plain for name, text in details(data["stages"]["distil"], data["models"])}


def test_all_of_a_stage():
    assert told() == {
        "reads of teacher": "hidden[0, 4] 8 × 16 × 64, logits 8 × 2",
        "reads of student": "blocks[0, 1] 8 × 16 × 64 and 8 × 16 × 32",
        "parameters": "trained: student 1.23 M, projection 2.08 k; frozen: teacher 22.7 M",
        "not trained": "a.weight, a.bias, b.weight and 1 more: they receive no gradient",
        "cost": "5.00 MFLOP a row: teacher 2.00 M, student 1.00 M, backward 2.00 M",
        "memory": "about 3.25 MiB for 8 rows of 16 tokens: "
        "models 1.00 MiB, gradients 512 KiB, optimizer 1.00 MiB, activations 768 KiB",
        "teacher cache": "teacher 2.93 KiB a row",
    }


def test_what_is_not_known_is_left_out():
    assert told(RehearsedStage(name="distil", rows=8)) == {}


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ((), "1.00 k parameters, 900 copied from teacher (1 tensor)"),
        (("head.weight",), "1.00 k parameters, 900 copied from teacher (1 tensor), 1 new: head.weight"),
        (tuple("abcd"), "1.00 k parameters, 900 copied from teacher (1 tensor), 4 new: a, b, c, …"),
    ],
)
def test_a_model_that_is_made_from_another_one(new, text):
    made = Initialization(source="teacher", copied=(("a", "b"),), new=new, unused=(), copied_parameters=900)
    data = as_data(Rehearsal(models={"student": ModelSize(parameters=1000, bytes=4000, initialization=made)}))
    assert model(data["models"]["student"]).plain == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (22_713_986, "22.7 M"), (7.5e9, "7.50 G"), (1e12, "1.00 T")],
)
def test_a_number_has_three_digits(count, text):
    assert number(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(8, "8 B"), (1536, "1.50 KiB"), (90_855_944, "86.6 MiB"), (2**31, "2.00 GiB")]
)
def test_a_size_has_three_digits(count, text):
    assert size(count) == text


def test_a_name_cannot_move_the_cursor():
    stage = RehearsedStage(name="distil", rows=1, groups={"\x1b[2J": 1})
    assert "\x1b" not in told(stage)["parameters"]
