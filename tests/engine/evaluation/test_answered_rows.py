"""The rows on which recorded teachers are evaluated."""

from __future__ import annotations

from types import SimpleNamespace

from kdspec.engine.evaluation.answered_rows import ComparedRows, answered, encoded_rows
from kdspec.engine.evaluation.evaluate import Outcome


def task(found):
    return SimpleNamespace(answered_by=lambda split, model: found)


def test_all_rows_are_not_named():
    assert answered(task(None), "test", "judge") is None
    assert answered(task([True, True]), "test", "judge") is None
    assert answered(task([True, False]), "test", "judge") == [True, False]


def test_a_sentence_may_be_several_rows():
    def loader(rows):
        return SimpleNamespace(split="test", encoded=lambda model: {"test": rows})

    assert encoded_rows(loader([{}, {}, {}]), "judge", [True, False, True]) == [0, 2]
    assert encoded_rows(loader([{"sentence": 0}, {"sentence": 1}, {"sentence": 1}]), "judge", [False, True]) == [1, 2]


def test_models_are_compared_on_the_rows_that_the_reference_has_answered():
    flags = {"judge": [True, True, False], "other": [False, True, True], "none": [False, False, False]}
    built = SimpleNamespace(answered_by=lambda split, model: flags.get(model))
    loader = SimpleNamespace(split="test", encoded=lambda model: {"test": [{}, {}, {}]})
    asked = []

    def evaluated(rows):
        asked.append(rows)
        return Outcome({"rows": 3 if rows is None else len(rows)})

    table = ComparedRows({"mail": "judge"})
    for model, rows in (("judge", (2, 2)), ("other", (2, 1)), ("student", (3, 2)), ("none", (None, None))):
        found = table.outcomes(evaluated, ("mail", built), loader, model)
        assert tuple(outcome.metrics.get("rows") for outcome in found) == rows
    assert asked == [[0, 1], [1, 2], [1], None, [0, 1]]
