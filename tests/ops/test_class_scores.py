"""F1 of classes from counts, as its definition by the table of all pairs of classes has it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_matthews_corrcoef

from kdspec.ops.class_scores import macro_f1
from kdspec.ops.correlation import matthews

CLASSES = 50_000


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.bytes = max(self.bytes, found.untyped_storage().nbytes())
        return found


@st.composite
def answers(draw):
    """Labels and answers, of all classes or of few: some classes are on one side alone, or nowhere."""
    classes = draw(st.integers(3, 40))
    size = draw(st.integers(1, 200))

    def some():
        few = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
        return torch.tensor(draw(st.lists(st.sampled_from(few), min_size=size, max_size=size)))

    truth = some()
    return classes, (truth.clone() if draw(st.booleans()) else some()), truth


@given(answers())
def test_the_mean_f1_has_the_bits_of_the_table_of_all_pairs(given_):
    classes, predicted, truth = given_
    expected = multiclass_f1_score(predicted, truth, num_classes=classes, average="macro").item()
    assert macro_f1(predicted, truth, classes) == expected
    pairs = list(zip(predicted.tolist(), truth.tolist(), strict=True))
    of_class = [
        2 * pairs.count((each, each)) / sum((one == each) + (other == each) for one, other in pairs)
        for each in {each for pair in pairs for each in pair}
    ]
    assert expected == pytest.approx(sum(of_class) / len(of_class), abs=1e-6)


@given(answers())
def test_the_correlation_is_that_of_the_table_of_all_pairs(given_):
    classes, predicted, truth = given_
    found = matthews(predicted, truth)
    if len(truth.unique()) > 1 and len(predicted.unique()) > 1:
        assert found == pytest.approx(multiclass_matthews_corrcoef(predicted, truth, classes).item(), abs=1e-5)
    else:
        assert found == 0


def test_without_an_answer_they_are_zero():
    nothing = torch.zeros(0, dtype=torch.long)
    assert macro_f1(nothing, nothing, 3) == 0
    assert matthews(nothing, nothing) == 0


def test_one_class_alone_is_all_right():
    same = torch.full((7,), 2)
    assert macro_f1(same, same, 5) == 1


def test_their_memory_is_linear_in_the_classes():
    generator = torch.Generator().manual_seed(0)
    predicted, truth = (torch.randint(CLASSES, (500,), generator=generator) for _ in range(2))
    with Largest() as largest:
        macro_f1(predicted, truth, CLASSES)
        matthews(predicted, truth)
    assert largest.bytes <= 8 * CLASSES
