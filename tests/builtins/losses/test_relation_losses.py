"""The relation losses: what every loss must keep, and whole runs on the vectors of a layer."""

from __future__ import annotations

import pytest
import torch

from kdspec import BuildContext
from kdspec.builtins.losses.relation_losses import MiniLM, MiniLMv2
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.ops.relations import relation
from kdspec.testing import check, check_loss, run, tiny

SPEC = """
kdspec: 1
name: relations
tasks: {reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2, hidden_size: 8, num_attention_heads: 2}}}
adaptors:
  teacher:
    logits: output.logits
    values: modules["bert.encoder.layer.2.attention.self.value"].output
    qkv:
      - modules["bert.encoder.layer.2.attention.self.query"].output
      - modules["bert.encoder.layer.2.attention.self.key"].output
      - modules["bert.encoder.layer.2.attention.self.value"].output
  student:
    logits: output.logits
    labels: batch.labels
    inputs_mask: batch.attention_mask
    values: modules["bert.encoder.layer.1.attention.self.value"].output
    qkv:
      - modules["bert.encoder.layer.1.attention.self.query"].output
      - modules["bert.encoder.layer.1.attention.self.key"].output
      - modules["bert.encoder.layer.1.attention.self.value"].output
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {weight: 0}
        matches:
          - {feature: values, loss: {minilm: {heads: 4}}}
          - {feature: qkv, loss: {minilm_v2: {heads: 8}}, layers: {0: 0, 1: 1, 2: 2}}
          - {feature: qkv, loss: {minilm_v2: {heads: 8}}, pairs: [{teacher: [0, 1], student: [0, 1]}]}
    training: {steps: 2, batch_size: 2, log_every: 1, evaluate: null}
"""


@pytest.fixture
def folder(tmp_path):
    tiny(tmp_path / "tiny", layers=3, width=16, heads=4)
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("loss", [MiniLM(heads=2), MiniLMv2(heads=2)], ids=["minilm", "minilm_v2"])
def test_they_pass_the_conformance_tests_of_losses(loss):
    check_loss(loss, zero_at_equality=True, non_negative=True)


def test_minilm_is_the_relation_of_values_with_themselves():
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 8)
    found = MiniLM(heads=2).build(BuildContext())(student, teacher, mask=None).value
    assert found == relation((student, student), (teacher, teacher), heads=2).value


def test_a_student_of_other_width_and_heads_learns_relations(folder):
    assert check(SPEC, folder=folder).errors == ()
    result = run(SPEC, folder / "runs", folder=folder)
    assert result.stages[0].step == 2
    weights = (folder / "runs" / "relations" / "events.jsonl").read_text()
    for term in ("values.minilm.all", "qkv.minilm_v2.0-0", "qkv.minilm_v2.2-2", "qkv.minilm_v2.0-0.1-1"):
        assert f'"{term}"' in weights


@pytest.mark.parametrize("match", [0, 1])
def test_heads_that_do_not_divide_the_widths_are_reported_at_their_place(match, folder):
    name = "minilm_v2" if match else "minilm"
    change = f"stages.distil.distiller.general.matches.{match}.loss.{name}.heads=3"
    with pytest.raises(DiagnosticError) as caught:
        run(SPEC, folder / "runs", folder=folder, sets=[change])
    (found,) = caught.value.diagnostics
    assert found.code == "KD302"
    assert "8 wide cannot be split into 3 heads" in found.message
    assert found.help == "these fit: 1, 2, 4, 8"
