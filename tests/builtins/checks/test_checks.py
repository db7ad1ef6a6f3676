"""Models and tasks that check themselves when a spec is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec import Fault, Model, Task
from kdspec.testing.specs import check

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"
SPEC = """\
kdspec: 1
name: checks
tasks:
  rows: {doubtful_task: {}}
models:
  one:
    doubtful: {size: 3}
stages:
  train:
    distiller: {supervised: {model: one}}
    training: {steps: 1}
"""


class DoubtfulTask(Task):
    """A task of nothing."""

    name = "doubtful_task"

    def adaptor(self):
        return {"losses": "output.loss"}

    def build(self, context):
        raise AssertionError


def doubtful(answer):
    class Doubtful(Model):
        """A model that checks itself."""

        name = "doubtful"
        size: int = 0
        """Of no consequence."""

        def check(self, context):
            return answer(self, context)

        def build(self, context):
            raise AssertionError

    return Doubtful


def told(answer):
    return check(SPEC, doubtful(answer), DoubtfulTask, folder=TINY).diagnostics


def test_a_fault_is_reported_at_the_parameter():
    (found,) = told(lambda *_: [Fault("KD104", "too small", ("size",), help="take more")])
    assert str(found) == "spec.yaml:7:22: KD104 too small"
    assert (found.severity, found.help) == ("error", "take more")


def test_a_fault_may_be_about_the_key():
    (found,) = told(lambda *_: [Fault("KD104", "no", ("size",), key=True)])
    assert found.primary.span.column == 15


def test_a_fix_is_offered_where_the_text_has_the_word():
    (found,) = told(lambda *_: [Fault("KD104", "no", ("size",), fix=("3", "a: b"))])
    assert found.edit.text == '"a: b"'
    (found,) = told(lambda *_: [Fault("KD104", "no", ("size",), fix=("4", "5"))])
    assert found.edit is None


def test_a_setting_without_effect_is_a_warning():
    (found,) = told(lambda *_: [Fault("KD305", "in vain", ("size",))])
    assert found.severity == "warning"


def test_a_fault_may_be_raised():
    def answer(*_):
        raise Fault("KD104", "too small", ("size",))

    assert [str(found) for found in told(answer)] == ["spec.yaml:7:22: KD104 too small"]


def test_the_context_has_the_models_and_what_is_known_of_them():
    def answer(model, context):
        assert context.models[context.name] is model
        assert context.facts[context.name].layers is None
        return ()

    assert told(answer) == ()


@pytest.mark.filterwarnings("error")
def test_a_check_that_raises_is_a_warning_and_ends_nothing():
    def answer(*_):
        raise KeyError("oops")

    (found,) = told(answer)
    assert (found.code, found.severity) == ("KD203", "warning")
    assert "the check of model `doubtful` raised KeyError: 'oops'" in found.message
