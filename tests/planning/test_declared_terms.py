"""A strategy declares its terms, and the plan shows them with the settings that the spec gives."""

from __future__ import annotations

from typing import Any

import pytest

from kdspec import Component, DeclaredTerm, Distiller, Needs, ObjectiveContext, Schedule, TaskNeeds, by_name, hookimpl
from kdspec.planning.outline import outline
from kdspec.render.plan import terms


class Weighed(Distiller):
    """Two terms with weights of their own."""

    name = "weighed"
    teacher: str = "teacher"
    """The teacher."""
    student: str = "student"
    """The student."""
    hard_weight: Schedule = by_name(0.5)
    """Of the labels."""
    declared: bool = True
    """Whether terms are declared."""

    def needs(self) -> Needs:
        declared = (
            DeclaredTerm(name="soft_labels", weight=None),
            DeclaredTerm(
                name="hard_labels", parameters={"weight": "hard_weight"}, active=not self.hard_weight.always_zero()
            ),
        )
        terms_ = declared if self.declared else ()
        task = TaskNeeds(teachers=(self.teacher,), hard_labels=True, terms=terms_)
        return Needs(student=self.student, tasks=(task,))

    def build(self, context: ObjectiveContext) -> Any:
        raise NotImplementedError


class Plugin:
    @hookimpl
    def kdspec_components(self) -> list[type[Component]]:
        return [Weighed]


@pytest.fixture
def stage(session):
    def made(settings):
        stages = f"stages={{distil: {{distiller: {{weighed: {settings}}}, training: {{steps: 1}}}}}}"
        return outline(session(stages, plugins=(Plugin(),)).plan)["stages"][0]

    return made


@pytest.mark.parametrize(
    ("settings", "hard"),
    [
        ("{}", {"value": 0.5, "origin": "default"}),
        ("{hard_weight: 0.1}", {"value": 0.1, "origin": "written"}),
        ("{declared: false}", {"value": None, "origin": "unknown"}),
    ],
)
def test_a_weight_is_that_of_the_parameter_or_unknown(stage, settings, hard):
    found = {term["name"]: term for term in stage(settings)["terms"]}
    assert found["hard_labels"]["settings"]["weight"] == hard


def test_all_terms_are_shown_and_their_parameters_stand_there_alone(stage):
    made = stage("{hard_weight: 0.1}")
    assert [term["name"] for term in made["terms"]] == ["soft_labels", "hard_labels"]
    assert "hard_weight" not in made["settings"]
    shown = [[cell.plain for cell in row] for row in terms(made)]
    assert shown[0][3] == "?"
    assert shown[1][3] == "0.1"


def test_a_term_that_is_off_is_shown_as_off(stage):
    assert [term["active"] for term in stage("{hard_weight: 0}")["terms"]] == [True, False]
