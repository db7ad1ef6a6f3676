"""The rows on which recorded teachers are evaluated."""

from __future__ import annotations

from types import SimpleNamespace

from kdspec.engine.evaluation.answered_rows import answered, encoded_rows


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
