"""The answers of teachers are computed once, unless the strategy changes them."""

from __future__ import annotations

import pytest
import torch

from kdspec.api.plan.mixture import Mixture
from kdspec.data.answers.beside_teacher import BesideTeacher
from kdspec.engine.evaluation.evaluate import Outcome
from kdspec.engine.evaluation.teacher_answers import TeacherAnswers
from kdspec.engine.processes.process_group import ProcessGroup


def outcome(*classes):
    logits = torch.nn.functional.one_hot(torch.tensor(classes), 3).float()
    keys = torch.arange(len(classes))[:, None]
    return Outcome({}, ({"keys": keys, "logits": logits, "answered": torch.ones(len(classes), dtype=torch.bool)},))


@pytest.mark.parametrize("changing", [False, True])
def test_teachers_answer_when_they_are_first_needed(changing):
    asked = []

    def teacher():
        asked.append("teacher")
        return outcome(0, 1, 2, 2)

    answers = TeacherAnswers(BesideTeacher("classes"), [teacher], Mixture(), ProcessGroup(), changing)
    assert asked == []
    assert answers.beside(outcome(0, 1, 2, 0))["agreement"] == 0.75
    assert answers.beside(outcome(0, 1, 2, 2))["agreement"] == 1
    assert len(asked) == (2 if changing else 1)


def test_without_an_answer_of_a_teacher_there_are_no_metrics():
    answers = TeacherAnswers(BesideTeacher("classes"), [lambda: Outcome({})], Mixture(), ProcessGroup())
    assert answers.beside(outcome(0, 1)) == {}
