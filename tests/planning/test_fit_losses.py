"""Losses of strategies and the logits of their tasks."""

from __future__ import annotations

import pytest

from kdspec.builtins.tasks.regression import Regression
from kdspec.testing import check

SPEC = """\
kdspec: 1
name: logits
tasks:
  rows:
    {task}: {{data: {{json: {{train: rows.jsonl}}}}, text: text, label: label}}
models:
  teacher: {{transformers: {{config: {{model_type: bert}}}}}}
  student: {{transformers: {{like: teacher}}}}
stages:
  teach:
    distiller: {{supervised: {{model: teacher}}}}
    training: {{steps: 1, evaluate: null}}
  distil:
    distiller: {{general: {{teacher: teacher, student: student, soft_labels: {soft}}}}}
    training: {{steps: 1, evaluate: null}}
"""


class Scored(Regression):
    """A task whose logits are scores of candidates."""

    name = "scored"
    logits = "scores"


def checked(task, soft, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": null}\n')
    return check(SPEC.format(task=task, soft=soft), Scored, folder=tmp_path)


def losses(task, soft, tmp_path):
    found = checked(task, soft, tmp_path)
    assert not found.diagnostics
    soft = found.spec.stages["distil"].distiller.soft_labels
    return soft.loss.name, soft.temperature.value


@pytest.mark.parametrize(
    ("task", "soft", "expected"),
    [
        ("sequence_classification", "{}", ("ce", 4)),
        ("multi_label", "{}", ("bce", 4)),
        ("multi_label", "{temperature: 2}", ("bce", 2)),
        ("multi_label", "{loss: mse, temperature: 1}", ("mse", 1)),
        ("regression", "{}", ("mse", 1)),
        ("regression", "{weight: 3}", ("mse", 1)),
        ("regression", "{loss: mse, temperature: 1}", ("mse", 1)),
        ("scored", "{}", ("ce", 1)),
        ("scored", "{temperature: 4}", ("ce", 4)),
        ("scored", "{loss: kl, temperature: 0.05}", ("kl", 0.05)),
        ("scored", "{loss: mse}", ("mse", 1)),
        ("scored", "{loss: margin_mse}", ("margin_mse", 1)),
        ("scored", "{loss: ranknet}", ("ranknet", 1)),
        ("scored", "{loss: list_mle}", ("list_mle", 1)),
        ("scored", "{probability_shift: true}", ("ce", 1)),
    ],
)
def test_a_loss_that_is_left_out_fits_the_task(task, soft, expected, tmp_path):
    assert losses(task, soft, tmp_path) == expected


@pytest.mark.parametrize(
    ("task", "soft", "words"),
    [
        ("multi_label", "{loss: ce}", "`ce` compares classes of which one is right; task `rows` has labels of which"),
        ("multi_label", "{loss: kl}", "`kl` compares classes"),
        ("regression", "{loss: bce}", "`bce` compares labels of which several may hold; task `rows` has numbers"),
        ("sequence_classification", "{loss: bce}", "`bce` compares labels"),
        ("multi_label", "{temperature: cwsm}", "`cwsm` takes the confidence of a softmax over classes of which one is"),
        ("multi_label", "{loss: mse, temperature: {cwsm: {base: 2}}}", "task `rows` has labels of which several may"),
        ("multi_label", "{probability_shift: true}", "`probability_shift` corrects the one right class"),
        ("regression", "{probability_shift: true}", "task `rows` has numbers"),
        (
            "sequence_classification",
            "{loss: margin_mse}",
            "`margin_mse` compares scores of candidates; task `rows` has c",
        ),
        ("multi_label", "{loss: ranknet}", "`ranknet` compares scores of candidates; task `rows` has labels of which"),
        ("regression", "{loss: list_mle}", "`list_mle` compares scores of candidates; task `rows` has numbers"),
        (
            "scored",
            "{loss: bce}",
            "`bce` compares labels of which several may hold; task `rows` has scores of candidates",
        ),
    ],
)
def test_what_does_not_fit_is_reported(task, soft, words, tmp_path):
    [error] = checked(task, soft, tmp_path).errors
    assert error.code == "KD313"
    assert words in error.message


def test_the_fix_is_the_loss_of_the_task(tmp_path):
    [error] = checked("multi_label", "{loss: ce}", tmp_path).errors
    assert (error.help, error.edit.text) == ("write `loss: bce`", "bce")


def test_a_temperature_for_numbers_is_a_warning(tmp_path):
    [warning] = checked("regression", "{temperature: 4}", tmp_path).diagnostics
    assert (warning.code, warning.severity) == ("KD305", "warning")


@pytest.mark.parametrize("task", ["sequence_classification", "multi_label"])
def test_the_default_temperature_of_a_loss_that_it_only_scales_is_a_warning(task, tmp_path):
    [warning] = checked(task, "{loss: mse}", tmp_path).diagnostics
    assert (warning.code, warning.severity, warning.help) == ("KD305", "warning", "write `temperature: 1`")
    assert "the default temperature, 4, softens nothing in `mse`: it divides the loss by 16" in warning.message
    for written in ("temperature: 1", "temperature: 4", "weight: 0"):  # the advice, and what was chosen
        found = checked(task, f"{{loss: mse, {written}}}", tmp_path).diagnostics
        assert "softens nothing" not in str([each.message for each in found])


def test_confidence_weights_for_labels_have_help_that_works(tmp_path):
    [error] = checked("multi_label", "{temperature: cwsm}", tmp_path).errors
    assert error.help == "write a number: `temperature: 4`"
    assert not checked("multi_label", "{temperature: 4}", tmp_path).diagnostics
    assert not checked("sequence_classification", "{temperature: cwsm}", tmp_path).errors


def test_a_term_without_weight_compares_nothing(tmp_path):
    found = checked("multi_label", "{loss: ce, weight: 0}", tmp_path)
    assert "KD313" not in {diagnostic.code for diagnostic in found.diagnostics}


def test_a_task_without_logits_has_no_soft_labels_but_those_that_are_written(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    spec = SPEC[SPEC.index("kdspec") : SPEC.index("  teach:\n")] + SPEC[SPEC.index("  distil:\n") :]
    spec = spec.replace(", text: text, label: label", ", text: text")
    spec = spec.replace(
        "soft_labels: {soft}", "matches: [{{feature: hidden, loss: hidden_mse, layers: {{0: 0}}}}]{soft}"
    )
    for soft in ("", ", soft_labels: {}", ", soft_labels: {weight: 0}"):
        found = check(spec.format(task="embedding", soft=soft), folder=tmp_path)
        assert not found.errors
        assert found.spec.stages["distil"].distiller.soft_labels.weight.value == 0
    for soft in (", soft_labels: {loss: mse}", ", soft_labels: {weight: 2}", ", soft_labels: {weight: 1}"):
        found = check(spec.format(task="embedding", soft=soft), folder=tmp_path)
        assert {each.code for each in found.errors} == {"KD303"}
