"""Mistakes that only shapes show: each is told of at its place in the spec, with both shapes, before a weight is read."""

from __future__ import annotations

from pathlib import Path

import pytest

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
MATCH = "{feature: hidden, loss: hidden_mse, layers: {2: 2}}"
TEACHER = "{logits: output.logits, hidden: output.hidden}"
STUDENT = "{logits: output.logits, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}"


def test_a_good_spec_has_nothing(rehearsed):
    outcome = rehearsed(SPEC, NETS)
    assert outcome.codes == []
    (match,) = outcome.stage.matches
    assert (match.projection.name, match.projection_origin) == ("linear", "derived")
    assert (match.student_width, match.teacher_width) == (4, 6)
    assert outcome.stage.groups == {"student": 30 * 4 + 2 * 20 + 25 + 1, "projection": 4 * 6 + 6}


@pytest.mark.parametrize(
    ("change", "code", "place", "told"),
    [
        pytest.param(
            [(MATCH, "{feature: hidden, loss: hidden_mse, layers: {7: 2}}")],
            "KD301", "7", "`teacher` returned 3 of `hidden`; there is no index 7", id="no such layer",
        ),
        pytest.param(
            [(TEACHER, "{logits: output.logits, hidden: output.hiden}")],
            "KD303", ".hiden", "`hidden` of `teacher` is not at its path", id="not returned",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: hidden_mse, layers: {2: 5}}")],
            "KD301", "5", "`student` returned 3 of `hidden`; there is no index 5", id="no such layer of the student",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: fsp, pairs: [{teacher: [0, 8], student: [0, 2]}]}")],
            "KD301", "[{teacher: [0, 8], student: [0, 2]}]", "there is no index 8", id="no such layer of a pair",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: hidden_mse, layers: {2: 2}, projection: none}")],
            "KD302", "none", "their widths differ, and there is no projection", id="widths",
        ),
        pytest.param(
            [("{net: {width: 6}}", "{net: {width: 6, longer: 2}}")],
            "KD402", "hidden", "their lengths differ", id="lengths",
        ),
        pytest.param(
            [("{net: {width: 6}}", "{net: {classes: 4}}")],
            "KD403", "distiller", "`student` has 5 classes, `teacher` 4", id="classes",
        ),
        pytest.param(
            [("inputs_mask: batch.mask,", "inputs_mask: 'batch.mask[:, 1:]',")],
            "KD404", "hidden", "`inputs_mask` of `student` is (3, 4), `hidden` (3, 5, 4)", id="mask of the inputs",
        ),
        pytest.param(
            [
                (STUDENT, "{logits: 'output.hidden[0]', hidden: output.hidden, logits_mask: 'batch.mask[:, 1:]'}"),
                (TEACHER, "{logits: 'output.hidden[0][..., :4]', hidden: output.hidden}"),
            ],
            "KD404", "'batch.mask[:, 1:]'", "`logits_mask` of `student` is (3, 4), its `logits` (3, 5, 4)",
            id="mask of the logits",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: hidden_mse}")],
            "KD313", "hidden", "`hidden_mse` compares one tensor of each model; `hidden` is 3 and 3 tensors",
            id="no layers",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: cuts, layers: {2: 2}}")],
            "KD506", MATCH.replace("hidden_mse", "cuts"), "the loss `cuts` raised RuntimeError", id="a loss raises",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: hides, layers: {2: 2}}")],
            "KD510", None, "a parameter would never be trained", id="a parameter in a list",
        ),
        pytest.param(
            [(MATCH, "{feature: hidden, loss: {hides: {how: closure}}, layers: {2: 2}}")],
            "KD510", None, "a loss has a parameter of shape [] that would never be trained", id="in a closure",
        ),
        pytest.param(
            [("student: {net: {}}", "student: {net: {trait: detached}}"), ("        matches:\n          - " + MATCH, "        soft_labels: {weight: 0}\n        matches: [{feature: hidden, loss: mmd, layers: {2: 2}}]")],
            "KD306", None, "depends on a parameter that is trained", id="nothing to learn",
        ),
        pytest.param(
            [("columns: [ids, mask]", "columns: [ids]"), ("batch.mask", "batch.ids")],
            "KD502", None, "does not take the columns `ids`", id="columns",
        ),
    ],
)  # fmt: skip
def test_a_mistake(rehearsed, change, code, place, told):
    outcome = rehearsed(SPEC, NETS, change=change)
    assert outcome.found.failed
    first = next(d for d in outcome.found.findings if d.code == code)
    assert told in first.message
    if place is not None:
        assert outcome.pointed(first) == place


def test_both_shapes_are_reported(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("{net: {width: 6}}", "{net: {width: 6, longer: 2}}")])
    (found,) = outcome.found.findings
    assert found.notes == ("`hidden` 2 of `teacher` is (3, 7, 6)", "`hidden` 2 of `student` is (3, 5, 4)")


def test_the_inputs_of_a_failing_loss_are_reported(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("hidden_mse", "cuts")])
    (found,) = outcome.found.findings
    assert found.notes == (
        "`hidden` of `teacher`: (3, 5, 6)",
        "`hidden` of `student`: (3, 5, 4)",
        "`inputs_mask` of `student`: (3, 5)",
    )


def test_several_errors_are_reported_together(rehearsed):
    both = f"{MATCH}\n          - {{feature: hidden, loss: hidden_mse, layers: {{1: 1}}, projection: none}}"
    outcome = rehearsed(SPEC, NETS, change=[("{net: {width: 6}}", "{net: {width: 6, longer: 2}}"), (MATCH, both)])
    assert outcome.codes == ["KD402", "KD402", "KD302"]


TEXTS = """\
kdspec: 1
name: small
tasks:
  reviews:
    sequence_classification:
      data: {csv: {train: rows.csv}}
      text: text
      label: label
      max_length: 32
models:
  student:
    transformers:
      config: {model_type: bert, hidden_size: 12, num_hidden_layers: 2, num_attention_heads: 2, max_position_embeddings: 20}
stages:
  learn:
    distiller: {supervised: {model: student}}
    training: {epochs: 1, batch_size: 4}
"""


def test_rows_longer_than_the_positions_are_a_warning(rehearsed):
    outcome = rehearsed(TEXTS)
    (found,) = outcome.found.findings
    assert (found.code, found.severity, outcome.pointed(found)) == ("KD405", "warning", "32")
    assert found.help.startswith("write `max_length: 20`")
    assert outcome.stage.inputs["input_ids"].shape == (4, 20)


def test_a_length_that_nobody_has_written_is_no_mistake(rehearsed):
    outcome = rehearsed(TEXTS, change=[("      max_length: 32\n", "")])
    assert outcome.codes == []
    assert outcome.stage.inputs["input_ids"].shape == (4, 20)


def test_classes_that_depend_on_the_data_are_assumed(rehearsed):
    outcome = rehearsed(TEXTS, change=[("max_length: 32", "max_length: 16")])
    assert outcome.found.classes_assumed == {"reviews": 2}
    assert outcome.stage.features["student"]["logits"][0].shape == (4, 2)
