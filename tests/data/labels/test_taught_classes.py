"""Where the classes of rows without labels come from."""

from __future__ import annotations

import pytest

from kdspec.api.kinds.context import TaskContext, TrainedHead
from kdspec.data.labels.taught_classes import taught_classes
from kdspec.diagnostics.fault import Fault

NAMED = TrainedHead(model="teacher", classes=2, labels=("bad", "good"))
UNNAMED = TrainedHead(model="other", classes=3)


def test_the_names_of_the_spec_are_first():
    told = []
    assert taught_classes(TaskContext(heads=(NAMED,), tell=told.append), ["x", "y", "z"]) == ("x", "y", "z")
    assert told == []


def test_a_head_with_names_comes_before_one_without():
    told = []
    assert taught_classes(TaskContext(heads=(UNNAMED, NAMED), tell=told.append), None) == ("bad", "good")
    (fault,) = told
    assert (fault.code, fault.severity) == ("KD316", "note")
    assert "those of `teacher`" in fault.message


def test_a_head_without_names_numbers_the_classes():
    assert taught_classes(TaskContext(heads=(UNNAMED,)), None) == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_head_with_one_number_names_nothing():
    with pytest.raises(Fault, match="nothing names the classes") as caught:
        taught_classes(TaskContext(heads=(TrainedHead(model="scores", classes=1),)), None)
    assert caught.value.code == "KD312"
