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


RANKING = """\
kdspec: 1
name: search
tasks:
  search: {ranking: {data: {json: {train: rows.jsonl}}, query: query, documents: documents, max_length: 40}}
models:
  teacher:
    transformers:
      config: {model_type: bert, vocab_size: 400, hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 4, intermediate_size: 256}
      reads: each
  student: {transformers: {like: teacher, reads: pair}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: kl}}}
    training: {epochs: 2, batch_size: 4}
"""
TEACHER = "models.teacher.transformers"


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ((), 4 * 64 * (1 + 3)),
        ((f"{CACHE}={{dtype: float16}}",), 2 * 64 * (1 + 3)),
        ((f"{TEACHER}.similarity=maxsim",), 4 * 64 * 40 * (1 + 3)),
        ((f"{TEACHER}.readout={{dense: [8]}}",), 4 * 8 * (1 + 3)),
        ((f"{TEACHER}.reads=pair", "models.student.transformers.reads=each"), 4 * 3),
    ],
    ids=["vectors", "half vectors", "vectors of tokens", "narrow vectors", "scores"],
)
def test_a_row_of_several_texts_takes_what_their_answers_take(settings, size, rehearsed, tmp_path):
    """As many candidates as the first rows have, here three."""
    rows = '{"query": "a", "documents": ["b", "c", "d"]}\n' * 8
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    outcome = rehearsed(RANKING, sets=settings)
    assert outcome.stage.cache == {"teacher": size}
    assert outcome.stage.flops is not None
