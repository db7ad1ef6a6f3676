"""The base class of objectives, and what it declares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec import DistillationObjective, Features, Objective, Step, Term
from kdspec.objectives.multi_task import MultiTaskObjective, TaskObjective

CAPABILITIES = ("reads_teachers_by_matches", "keeps_nothing", "changes_modules", "makes_batches")


class Size(Objective):
    """A term, and a note of when it was called."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.called = []

    def forward(self, step):
        return {"size": Term(self.factor * step.student["logits"].dense().mean())}

    def on_step_begin(self, progress, models):
        self.called.append(("begin", progress, dict(models)))

    def on_step_end(self, progress):
        self.called.append(("end", progress))

    def parameter_groups(self):
        return [{"name": "size", "params": [self.factor], "lr": 1.0}]

    def path_of(self, term):
        return ("sizes", term)


def several(*parts):
    names = "ab"[: len(parts)]
    tasks = zip(names, parts, strict=True)
    return MultiTaskObjective({n: TaskObjective(part, lambda _: 1.0, at=("tasks", n)) for n, part in tasks})


def test_nothing_is_promised_by_default():
    objective = Size()
    assert not any(getattr(objective, name) for name in CAPABILITIES)
    assert Objective.parameter_groups(objective) == []
    assert Objective.path_of(objective, "size") == ()
    batches = {"student": {"ids": torch.ones(1)}}
    assert objective.make_batches(batches, {}) == batches


def test_an_objective_needs_a_forward_method():
    with pytest.raises(TypeError, match="abstract"):
        type("Empty", (Objective,), {})()


def test_a_subclass_of_our_objective_inherits_what_it_declares():
    class Same(DistillationObjective):
        pass

    class Reading(DistillationObjective):
        reads_teachers_by_matches = False

    same, reading = Same(tasks={}), Reading(tasks={})
    assert (same.reads_teachers_by_matches, same.keeps_nothing) == (True, True)
    assert (reading.reads_teachers_by_matches, reading.keeps_nothing) == (False, True)


def test_several_tasks_promise_what_all_of_them_promise():
    ours, other = DistillationObjective(tasks={}), Size()
    both = several(ours, ours)
    assert (both.reads_teachers_by_matches, both.keeps_nothing, both.changes_modules) == (True, True, False)
    other.changes_modules = True
    mixed = several(ours, other)
    assert (mixed.reads_teachers_by_matches, mixed.keeps_nothing, mixed.changes_modules) == (False, False, True)


def test_several_tasks_hand_on_every_call():
    parts = Size(), Size()
    both = several(*parts)
    both.on_step_begin(0.25, {"student": parts[0]})
    both.on_step_end(0.5)
    for part in parts:
        assert part.called == [("begin", 0.25, {"student": parts[0]}), ("end", 0.5)]
    assert [group["params"][0] for group in both.parameter_groups()] == [part.factor for part in parts]
    assert both.path_of("b.size") == ("tasks", "b", "sizes", "size")
    assert both.path_of("elsewhere") == ()
    terms = both(Step(student=Features({"logits": torch.ones(2)}), task="b"))
    assert list(terms) == ["b.size"]


def test_the_terms_of_our_objective_are_written_below_keys_of_their_names():
    objective = DistillationObjective(tasks={})
    assert objective.path_of("soft_labels.teacher") == ("soft_labels",)
    assert objective.path_of("hard_labels") == ("hard_labels",)
    assert objective.path_of("hidden 3:1 mse") == ()
