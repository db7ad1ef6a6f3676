"""A plan of components that go wrong while they are asked."""

from __future__ import annotations

import pytest

from kdspec import Distiller, Fault, Model, Needs, TaskNeeds
from kdspec.testing import check

SPEC = """\
kdspec: 1
name: plan
tasks: {rows: {tensors: {data: {json: {train: rows.jsonl}}, labels: label}}}
models: {one: {moody: {}}}
stages: {train: {distiller: {moody: {model: one}}, training: {steps: 1}}}
"""


class MoodyModel(Model):
    """A model that raises when it is asked for facts."""

    name = "moody"
    mood: str = "good"
    """`good`, `bad` or `sorry`."""

    def facts(self, context):
        if self.mood == "bad":
            raise RuntimeError("not today")
        if self.mood == "sorry":
            raise Fault("KD503", "there is no such model", ("mood",))
        return super().facts(context)

    def build(self, context):
        raise AssertionError


class MoodyStrategy(Distiller):
    """A strategy that raises when it is asked for its needs."""

    name = "moody"
    model: str
    """Who learns."""
    mood: str = "good"
    """`good` or `bad`."""

    def needs(self):
        if self.mood == "bad":
            raise KeyError("needs")
        return Needs(student=self.model, tasks=(TaskNeeds(reads={self.model: frozenset({"logits"})}),))

    def build(self, context):
        raise AssertionError


@pytest.fixture
def errors(tmp_path):
    """The errors of the spec with changes: code, message, and the text that is pointed at."""
    (tmp_path / "rows.jsonl").write_text('{"x": 1, "label": 0}\n')
    return lambda *sets: check(SPEC, MoodyModel, MoodyStrategy, folder=tmp_path, sets=sets).errors


def test_components_in_a_good_mood_are_planned(errors):
    assert errors() == ()


def test_facts_that_raise_are_a_diagnostic(errors):
    (found,) = errors("models.one.moody.mood=bad")
    assert (found.code, found.message) == ("KD506", "model `one` raised RuntimeError: not today")
    (found,) = errors("models.one.moody.mood=sorry")
    assert (found.code, found.message) == ("KD503", "there is no such model")
    assert found.primary.span.file == "--set"


def test_needs_that_raise_are_a_diagnostic(errors):
    (found,) = errors("stages.train.distiller.moody.mood=bad")
    assert (found.code, found.message) == ("KD506", "the strategy `moody` raised KeyError: 'needs'")
    assert found.primary is not None
