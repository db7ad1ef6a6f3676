"""Metrics of a model beside its teacher, from states in batches of any order."""

from __future__ import annotations

import pytest
import torch

from kdspec.api.plan.mixture import Mixture
from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Features
from kdspec.data.answers.beside_teacher import AnswersBesideTeacher, BesideTeacher, WordsBesideTeacher
from kdspec.data.ranking.ranking_metrics import CandidateMetrics

ROWS = 12


def drawn(columns=3, seed=0):
    return torch.randn(ROWS, columns, generator=torch.Generator().manual_seed(seed))


def states(evaluator, logits, order=range(ROWS), size=5, answered=None):
    """Those of some rows, in batches."""
    found = []
    order = list(order)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        features = {"logits": logits[rows]} | ({} if answered is None else {"answered": answered[rows]})
        found.append(evaluator.add(Features(features), Batch(inputs={}, targets={}, rows=rows)))
    return found


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_rows_correspond_by_their_numbers(kind):
    evaluator, mine, theirs = BesideTeacher(kind), drawn(), drawn(seed=1)
    first = evaluator.beside(states(evaluator, mine), states(evaluator, theirs))
    backwards = evaluator.beside(states(evaluator, mine, reversed(range(ROWS)), 4), states(evaluator, theirs))
    assert first == pytest.approx(backwards)
    assert tuple(first) == tuple(metric.name for metric in (evaluator.primary, *evaluator.others))
    same = evaluator.beside(states(evaluator, mine), states(evaluator, mine))
    assert same[evaluator.primary.name] == pytest.approx(1)


def test_rows_that_the_teacher_has_not_answered_do_not_count():
    evaluator, mine, theirs = BesideTeacher("classes"), drawn(), drawn(seed=1)
    given = torch.arange(ROWS) % 3 != 0
    found = evaluator.beside(states(evaluator, mine), states(evaluator, theirs, answered=given))
    expected = (mine.argmax(-1) == theirs.argmax(-1))[given].double().mean().item()
    assert found["agreement"] == expected
    nothing = states(evaluator, theirs, answered=torch.zeros(ROWS))
    assert evaluator.beside(states(evaluator, mine), nothing) == {}


def test_models_with_other_classes_have_no_metrics():
    evaluator = BesideTeacher("classes")
    assert evaluator.beside(states(evaluator, drawn()), states(evaluator, drawn(4))) == {}
    assert evaluator.beside((), states(evaluator, drawn())) == {}


def test_decisions_are_at_the_threshold():
    evaluator = BesideTeacher("labels", threshold=0.9)
    mine, theirs = torch.full((ROWS, 2), 2.0), torch.full((ROWS, 2), 3.0)  # 0.88 and 0.95
    found = evaluator.beside(states(evaluator, mine), states(evaluator, theirs))
    assert found["agreement"] == 0


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (Mixture(), lambda a, b: (a + b) / 2),
        (Mixture(shares=(0.75, 0.25)), lambda a, b: 0.75 * a + 0.25 * b),
        (Mixture(of="probabilities"), lambda a, b: (a.softmax(-1) / 2 + b.softmax(-1) / 2).log()),
    ],
)
def test_several_teachers_are_one(mixture, expected):
    evaluator, first, second = BesideTeacher("classes"), drawn(), drawn(seed=1)
    given = torch.arange(ROWS) > 2
    teachers = [states(evaluator, first), states(evaluator, second, reversed(range(ROWS)), answered=given)]
    (joined,) = evaluator.joined(teachers, mixture)
    assert joined["keys"].flatten().tolist() == list(range(3, ROWS))
    wanted = expected(first.double(), second.double())[3:]
    assert torch.allclose(joined["logits"].double().softmax(-1), wanted.softmax(-1), atol=1e-6)


def test_a_teacher_that_is_sure_has_the_larger_weight_by_confidence():
    evaluator = BesideTeacher("classes")
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]] * ROWS), torch.tensor([[0.0, 0.5, 0.0]] * ROWS)
    (joined,) = evaluator.joined(
        [states(evaluator, sure), states(evaluator, unsure)], Mixture(of="probabilities", shares="confidence")
    )
    assert (joined["logits"].argmax(-1) == 0).all()


def words(evaluator, logits, places):
    """The state of sentences whose words begin at some places of their tokens."""
    mask = torch.zeros(logits.shape[:2])
    encoded = []
    for number, of in enumerate(places):
        for place in of.values():
            mask[number, place] = 1
        encoded.append({"sentence": number, "words": list(of)})
    batch = Batch(inputs={"": {"word_mask": mask}}, targets={}, rows=list(range(len(places))), encoded=encoded)
    return [evaluator.add(Features({"logits": logits}), batch)]


def test_words_correspond_whatever_their_tokens():
    """The second model has two tokens for the first word, and none for the last one."""
    evaluator = WordsBesideTeacher()
    mine = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    theirs = torch.tensor([[[0.0, 3.0], [9.0, 0.0], [0.0, 2.0]]])
    found = evaluator.beside(words(evaluator, mine, [{0: 0, 1: 1, 2: 2}]), words(evaluator, theirs, [{0: 0, 1: 2}]))
    assert found["agreement"] == 0.5  # of the words 0 and 1


def test_the_agreement_of_an_evaluator_with_labels_is_the_metric():
    evaluator = AnswersBesideTeacher(CandidateMetrics())
    assert (evaluator.primary.name, evaluator.merge(())) == ("agreement", {})
    state = {"rows": torch.arange(4), "first": torch.tensor([0, 1, 2, 0]), "known": torch.zeros(4, dtype=torch.bool)}
    other = {**state, "first": torch.tensor([0, 1, 1, 1])}
    assert evaluator.beside([state], [other]) == {"agreement": 0.5}
    assert evaluator.joined([[state], [other]], Mixture()) == [state]
