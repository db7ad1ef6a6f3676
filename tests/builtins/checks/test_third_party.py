"""The rules know a strategy by what it declares, not by the names of its parameters."""

from __future__ import annotations

import pytest

from kdspec import ClassesOnly, Distiller, LogitLoss, Match, Needs, Schedule, Strict, TaskNeeds, by_name
from kdspec.testing import check, tiny

SPEC = """\
kdspec: 1
name: somebody
tasks: {rows: {TASK: {data: {csv: {train: rows.csv, validation: rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  first: {distiller: {supervised: {model: teacher}}, training: {steps: 1}}
  second: {distiller: {somebody: {PARAMETERS}}, training: {steps: 1}}
"""


class Answers(Strict):
    """A term."""

    by: LogitLoss = by_name("mse")
    """The loss."""
    strength: Schedule = by_name(1.0)
    """The factor."""
    twist: bool = False
    """About the right class."""


class Somebody(Distiller):
    """A strategy with names of its own."""

    name = "somebody"

    answers: Answers = by_name({})
    """Following the teacher."""
    alike: list[Match] = []
    """Following its layers."""

    def needs(self):
        on = not self.answers.strength.always_zero()
        logits = {name: frozenset({"logits"}) for name in ("teacher", "student")}
        twist = ClassesOnly(at=("answers", "twist"), why="`twist` turns the right class", help="leave it out")
        task = TaskNeeds(
            teachers=("teacher",),
            reads=logits if on else {},
            hard_labels=True,
            classes_only=(twist,) if self.answers.twist else (),
            matches=tuple(match for match in self.alike if not match.weight.always_zero()),
        )
        return Needs(student="student", tasks=(task,))

    def build(self, context):
        raise NotImplementedError


@pytest.fixture
def found(tmp_path):
    """What is found in a spec with these parameters of the strategy: message, and the text that it is about."""
    (tmp_path / "rows.csv").write_text("text,label\na,1\nb,2\n")
    tiny(tmp_path / "tiny", layers=2)

    def checked(parameters, task="sequence_classification"):
        text = SPEC.replace("PARAMETERS", parameters).replace("TASK", task)
        lines = text.splitlines()
        spans = {d.message: d.primary.span for d in check(text, Somebody, folder=tmp_path).diagnostics}
        return {message: lines[span.line][span.column : span.end_column] for message, span in spans.items()}

    return checked


def test_settings_beside_a_weight_of_0_have_no_effect(found):
    assert found("answers: {strength: 0, by: kl}")["`by` of `answers` has no effect"] == "by"


def test_matches_are_found_by_their_type(found):
    match = "{feature: hidden, loss: hidden_mse, layers: {1: 1}"
    messages = found(f"alike: [{match}, weight: 0}}, {match}}}, {match}}}]")
    assert messages["a match of weight 0 is not computed"] == "0"
    assert messages["the same match is given twice, so its weight is doubled"] == f"{match}}}"


def test_a_finding_about_a_match_has_the_place_of_the_match(found):
    messages = found("alike: [{feature: hidden, loss: hidden_mse, layers: {7: 1}}]")
    assert messages["`teacher` has no `hidden` 7: there are 3, from 0 to 2"] == "7"


def test_what_is_about_classes_is_a_mistake_for_numbers(found):
    assert "`twist` turns the right class; task `rows` has numbers" in found("answers: {twist: true}", "regression")
    assert not any("twist" in message for message in found("answers: {twist: true}"))
