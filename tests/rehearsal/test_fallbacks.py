"""What cannot be done without contents is a note and never a mistake; what can be told all the same is told."""

from __future__ import annotations

from pathlib import Path

import torch

NETS = Path(__file__).parent / "nets.py"
SPEC = """\
kdspec: 1
name: small
tasks:
  rows:
    tensors: {data: {json: {train: rows.jsonl}}, columns: [ids, mask], labels: label}
models:
  teacher: {net: {width: 6}}
  student: {net: {}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  student: {logits: output.logits, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {2: 2}}
    training: {steps: 1, batch_size: 3}
"""


def test_a_small_model_that_looks_at_values_is_run(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("{net: {}}", "{net: {trait: looks}}")])
    (note,) = outcome.found.findings
    assert (note.code, note.severity) == ("KD401", "note")
    assert "was rehearsed with 2 rows of real numbers" in note.message
    assert outcome.pointed(note) == "{trait: looks}"
    assert outcome.stage.features["student"]["hidden"][0].shape == (2, 5, 4)
    assert outcome.stage.matches[0].projection_origin == "derived"
    assert outcome.stage.flops.total > 0
    assert outcome.stage.memory is None


def test_a_large_model_that_looks_at_values_waits_for_the_first_batch(rehearsed):
    outcome = rehearsed(
        SPEC,
        NETS,
        change=[("width: 6", "width: 6, trait: large and looks"), ("{net: {}}", "{net: {trait: large and looks}}")],
    )
    assert outcome.codes == ["KD401"]
    assert "checked at the first batch" in outcome.found.findings[0].message


def test_a_model_that_looks_at_its_weights_when_it_is_made(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("width: 6", "width: 6, trait: looks at weights")])
    assert outcome.codes == ["KD401"]
    assert not outcome.found.failed
    assert "teacher" not in outcome.found.models
    assert outcome.found.models["student"].parameters == 30 * 4 + 2 * 20 + 25 + 1


def test_a_model_that_refuses_made_up_rows_is_a_warning(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("{net: {}}", "{net: {trait: refuses}}")])
    (found,) = outcome.found.findings
    assert (found.code, found.severity) == ("KD506", "warning")
    assert found.notes[-1] == "the inputs were made up"


def test_a_loss_that_looks_at_values_is_tried_on_random_numbers(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("loss: hidden_mse", "loss: looks")])
    (note,) = outcome.found.findings
    assert (note.code, note.severity) == ("KD401", "note")
    assert "were rehearsed on random numbers" in note.message
    assert outcome.stage.flops is None
    assert outcome.stage.groups["projection"] == 30


def test_a_loss_that_looks_and_fails_is_a_mistake(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("loss: hidden_mse", "loss: {looks: {fails: true}}")])
    (found,) = outcome.found.findings
    assert (found.code, found.severity) == ("KD506", "error")
    assert "the loss `looks` raised ValueError: not these" in found.message


def test_features_whose_shape_depends_on_a_mask_are_as_large_as_they_can_be(rehearsed):
    change = [("hidden: output.hidden}", "kept: output.kept}"), ("hidden: output.hidden, ", "kept: output.kept, ")]
    change += [
        ("inputs_mask: batch.mask, ", ""),
        ("feature: hidden, loss: hidden_mse, layers: {2: 2}", "feature: kept, loss: looks"),
    ]
    outcome = rehearsed(SPEC, NETS, change=change)
    assert outcome.stage.features["teacher"]["kept"][0].shape == (15, 6)


def test_rows_that_are_far_away_are_a_note(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("{json: {train: rows.jsonl}}", "{hub: {path: nobody/nothing}}")])
    (note,) = outcome.found.findings
    assert (note.code, note.severity, outcome.pointed(note)) == ("KD401", "note", "rows")
    assert outcome.found.models["teacher"].parameters > 0


def test_random_numbers_are_left_as_they_were(rehearsed):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rehearsed(SPEC, NETS)
    assert torch.equal(torch.get_rng_state(), before)
