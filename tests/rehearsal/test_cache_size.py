"""What the plan says that a row takes in the teacher cache, against what a codec writes."""

from __future__ import annotations

import pytest

SPEC = """\
kdspec: 1
name: small
tasks:
  texts: {masked_lm: {data: {csv: {train: rows.csv}}, text: text, max_length: 40, probability: 0.2}}
models:
  teacher:
    transformers:
      config: {model_type: bert, vocab_size: 400, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 256}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        matches: [{feature: hidden, loss: hidden_mse, layers: {2: 1}}]
    training: {epochs: 1, batch_size: 8}
"""
CACHE = "stages.distil.training.teacher_cache"
HIDDEN, MASKED, CLASSES = 40 * 64, 8, 400


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ("{dtype: exact}", 4 * (HIDDEN + MASKED * CLASSES)),
        ("{dtype: float16}", 2 * (HIDDEN + MASKED * CLASSES)),
        ("{dtype: int8}", HIDDEN + 4 * 40 + 2 * MASKED * CLASSES),
        ("{top_k: 16}", 4 * HIDDEN + MASKED * (16 * 8 + 4)),
        ("{top_k: 200}", 4 * (HIDDEN + MASKED * CLASSES)),
    ],
    ids=["exact", "float16", "int8", "top_k", "top_k that is no smaller"],
)
def test_the_plan_asks_the_codecs_what_a_row_takes(settings, size, rehearsed):
    outcome = rehearsed(SPEC, sets=[f"{CACHE}={settings}"])
    assert outcome.codes == []
    assert outcome.stage.cache == {"teacher": size}
