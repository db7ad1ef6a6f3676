"""`multi_teacher`: what it needs, what it computes, and the mistakes that one can make with it."""

from __future__ import annotations

import pytest
import torch

from kdspec import load_registry
from kdspec.api.kinds.distiller import ObjectiveContext
from kdspec.api.working.step import Features, Step
from kdspec.builtins.strategies.multi_teacher import MultiTeacher
from kdspec.diagnostics.fault import Fault
from kdspec.ops import divergence, ensemble
from kdspec.ops.probability_shift import probability_shift
from kdspec.testing import check

SPEC = """\
kdspec: 1
name: joined
tasks:
  reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}
models:
  one: {transformers: {config: {model_type: bert}, tokenizer: org/words}}
  two: {transformers: {config: {model_type: bert}, tokenizer: org/words}}
  student: {transformers: {like: one, config: {num_hidden_layers: 2}}}
stages:
  teach_one: {distiller: {supervised: {model: one}}, training: {steps: 1}}
  teach_two: {distiller: {supervised: {model: two}}, training: {steps: 1}}
  distil:
    distiller:
      multi_teacher: {teachers: [one, two], student: student}
    training: {steps: 1}
"""
BOTH = "teachers: [one, two], student: student"


@pytest.fixture(autouse=True)
def rows(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\n")


def found(tmp_path, written):
    return check(SPEC.replace(BOTH, written), folder=tmp_path)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def losses(labels=None, teachers=2, **soft):
    """The terms for four rows of three classes, and the logits that they are of."""
    names = [f"t{number}" for number in range(teachers)]
    written = {"teachers": names, "student": "s", "soft_labels": {"temperature": 2, **soft}}
    distiller = MultiTeacher.model_validate(written, context={"registry": load_registry()})
    answers = [draw(4, 3, seed=number + 1) for number in range(teachers)]
    mine = {"logits": draw(4, 3)} | ({} if labels is None else {"labels": labels})
    step = Step(
        student=Features(mine),
        teachers={name: Features({"logits": logits}) for name, logits in zip(names, answers, strict=True)},
    )
    return distiller.build(ObjectiveContext())(step), mine["logits"], answers


def the_loss(terms):
    assert list(terms) == ["soft_labels"]
    return terms["soft_labels"].loss.value


def test_raw_logits_are_averaged_before_the_temperature():
    terms, student, answers = losses(loss="kl")
    assert torch.equal(the_loss(terms), divergence.kl(student, sum(answers) / 2, 2.0).value)


def test_probabilities_at_the_temperature_are_averaged():
    terms, student, answers = losses(loss="ce", combine="probabilities", teachers=3)
    p = sum((logits / 2).softmax(-1) for logits in answers) / 3
    expected = -(p * (student / 2).log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(the_loss(terms), expected, atol=1e-14)


def test_losses_are_terms_of_their_own_with_the_teachers_weights():
    terms, student, answers = losses(loss="kl", combine="losses", teacher_weights=[3, 1], weight=0.5)
    assert {name: term.weight for name, term in terms.items()} == {"soft_labels.t0": 0.375, "soft_labels.t1": 0.125}
    for term, teacher in zip(terms.values(), answers, strict=True):
        assert torch.equal(term.loss.value, divergence.kl(student, teacher, 2.0).value)


def test_the_mean_of_cross_entropies_is_the_cross_entropy_of_the_mean_probabilities():
    apart, _, _ = losses(combine="losses", teacher_weights=[3, 1])
    together, _, _ = losses(combine="probabilities", teacher_weights=[3, 1])
    total = sum(term.weight * term.loss.value for term in apart.values())
    assert torch.allclose(total, the_loss(together), atol=1e-14)


def test_confidence_reads_labels_where_there_are_any():
    labels = torch.tensor([0, 1, -100, 2])
    terms, student, answers = losses(labels, combine="probabilities", teacher_weights="confidence")
    weights = ensemble.confidence(answers, labels)
    target = ensemble.mean_probabilities(answers, weights, temperature=2.0)
    assert torch.equal(the_loss(terms), divergence.cross_entropy_soft(student, target, 2.0).value)
    without, _, _ = losses(combine="probabilities", teacher_weights="confidence")
    assert the_loss(without) != the_loss(terms)


def test_the_probability_shift_is_of_the_mean():
    labels = torch.tensor([0, 1, 2, 2])
    terms, student, answers = losses(labels, probability_shift=True)
    shifted = probability_shift(sum(answers) / 2, labels)
    assert torch.equal(the_loss(terms), divergence.cross_entropy_soft(student, shifted, 2.0).value)


def test_a_rule_for_temperatures_is_given_the_mean_logits():
    rule = {"flsw": {"base": 4, "beta": 1, "gamma": 2}}
    for combine in ("logits", "probabilities", "losses"):
        terms, _, _ = losses(combine=combine, temperature=rule)
        assert all(term.loss.value.isfinite() for term in terms.values())


def test_a_single_value_has_no_probabilities_to_average():
    written = {"teachers": ["a", "b"], "student": "s", "soft_labels": {"combine": "probabilities", "loss": "mse"}}
    distiller = MultiTeacher.model_validate(written, context={"registry": load_registry()})
    value = Features({"logits": draw(4, 1)})
    with pytest.raises(Fault, match="needs several classes"):
        distiller.build(ObjectiveContext())(Step(student=value, teachers={"a": value, "b": value}))


def test_it_reads_logits_of_all_and_labels_only_for_what_needs_them():
    def needs(**soft):
        written = {"teachers": ["a", "b"], "student": "s", "soft_labels": soft}
        return MultiTeacher.model_validate(written, context={"registry": load_registry()}).needs().tasks[0]

    assert needs().teachers == ("a", "b")
    assert needs().reads == {"s": {"logits"}, "a": {"logits"}, "b": {"logits"}}
    assert needs(probability_shift=True).reads["s"] == {"logits", "labels"}
    assert "labels" in needs(teacher_weights="confidence").optional["s"]
    assert not needs(weight=0).reads["a"]


def test_it_is_valid(tmp_path):
    assert found(tmp_path, BOTH).diagnostics == ()


@pytest.mark.parametrize(
    ("written", "code", "told"),
    [
        ("teachers: [one, one], student: student", "KD104", "teacher `one` is named twice"),
        ("teachers: [], student: student", "KD104", "must have at least 1 entry"),
        ("teachers: [one, tow], student: student", "KD204", "unknown model `tow`"),
        ("teachers: [one, student], student: student", "KD307", "`student` cannot be its own teacher"),
        (BOTH + ", soft_labels: {teacher_weights: [1]}", "KD104", "1 number in `teacher_weights` for 2 teachers"),
        (BOTH + ", soft_labels: {teacher_weights: [1, 0]}", "KD104", "must be greater than 0"),
        (BOTH + ", soft_labels: {teacher_weights: confidance}", "KD104", "expected `confidence`"),
        (BOTH + ", soft_labels: {combine: logit}", "KD104", "expected `logits`, `probabilities` or `losses`"),
        (BOTH + ", soft_labels: {combine: losses, teacher_weights: confidence}", "KD107", "exclude each other"),
        (BOTH + ", matches: [{feature: hidden, loss: cos, layers: {1: 1}, teacher: tow}]", "KD204", "teacher `tow`"),
    ],
)
def test_a_mistake_is_reported_at_its_place(tmp_path, written, code, told):
    (error,) = found(tmp_path, written).errors
    assert error.code == code
    assert told in error.message
    assert error.primary.span.line == (SPEC[: SPEC.index(BOTH)].count("\n"))


def test_settings_beside_a_weight_of_0_are_reported(tmp_path):
    written = BOTH + ", soft_labels: {weight: 0, combine: losses}, hard_labels: {weight: 1}"
    (warning,) = found(tmp_path, written).diagnostics
    assert "`combine` of `soft_labels` has no effect" in warning.message


@pytest.mark.parametrize("key", ["combine: probabilities", "teacher_weights: confidence"])
def test_what_is_about_classes_is_refused_for_numbers(tmp_path, key):
    (tmp_path / "rows.csv").write_text("text,label\ngood,1.5\nbad,0.5\n")
    text = SPEC.replace("sequence_classification", "regression").replace(BOTH, BOTH + f", soft_labels: {{{key}}}")
    (error,) = check(text, folder=tmp_path).errors
    assert error.code == "KD313"
    assert error.message == f"`{key}` needs classes of which one is right; task `reviews` has numbers"
