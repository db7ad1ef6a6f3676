"""The rehearsal of embeddings: a projection that the student keeps, and losses that compare the rows of a step."""

from __future__ import annotations

import pytest

from kdspec.planning.prepare import prepare
from kdspec.rehearsal.rehearse import rehearse
from kdspec.source.extends import compose
from kdspec.testing import tiny

SPEC = """
kdspec: 1
name: embeddings
tasks: {sentences: {embedding: {data: {csv: {train: rows.csv}}, text: sentence}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1, hidden_size: WIDTH, num_attention_heads: 2}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches:
          - {feature: embedding, loss: cos}
          - {feature: embedding, loss: similarity_mse}
          - {feature: embedding, loss: similarity_kl}
          - {feature: embedding, loss: triplet_order}
          - {feature: embedding, loss: cosent}
          - {feature: embedding, loss: {contrastive: {queue: 100}}}
          - {feature: embedding, loss: {matryoshka: {loss: {contrastive: {queue: 100}}, widths: [4, 16]}}}
    training: {epochs: 1, batch_size: 8}
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 8], ids=["of equal widths", "with a projection that is kept"])
def test_all_losses_of_embeddings_are_rehearsed(width, tmp_path, shared_registry):
    tiny(tmp_path / "tiny", layers=2, width=16, heads=4)
    (tmp_path / "rows.csv").write_text("sentence\ngood\nnot bad at all\n")
    made = prepare(compose(SPEC.replace("WIDTH", str(width)), "spec.yaml", tmp_path, (), {}), shared_registry)
    assert made.plan is not None, made.errors
    found = rehearse(made.plan, shared_registry)
    assert not [each for each in found.findings if each.severity != "note"], found.findings
    (stage,) = found.stages
    assert stage.features["student"]["embedding"][0].shape == (8, 16)
    assert stage.flops.losses > 0
