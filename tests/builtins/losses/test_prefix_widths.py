"""Prefixes of embeddings that are wider than the vectors are an error of the plan."""

from __future__ import annotations

import pytest

from kdspec.testing import check, tiny

SPEC = """
kdspec: 1
name: prefixes
tasks: {sentences: {embedding: {data: {csv: {train: rows.csv}}, text: sentence}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1, hidden_size: 8, num_attention_heads: 2}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: {matryoshka: LOSS}}]}}
    training: {epochs: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("prefixes")
    tiny(made / "tiny", layers=2, width=16, heads=4)
    (made / "rows.csv").write_text("sentence\ngood\nbad\n")
    return made


@pytest.mark.parametrize(
    ("loss", "model", "width", "place"),
    [
        ("{loss: cos, widths: [4, 16]}", None, 16, None),
        ("{loss: similarity_mse, widths: [4, 8]}", None, 8, None),
        ("{loss: cos, widths: [4, 17, 32]}", "teacher", 16, 1),
        ("{loss: similarity_mse, widths: [9]}", "student", 8, 0),
    ],
    ids=["a student that is projected", "similarities", "wider than the teacher", "wider than the student"],
)
def test_widths_are_those_of_the_vectors_that_are_cut(loss, model, width, place, folder):
    found = check(SPEC.replace("LOSS", loss), folder=folder)
    if model is None:
        assert found.errors == ()
        return
    (error,) = found.errors
    assert error.code == "KD302"
    assert f"`{model}` is {width} wide" in error.message
    assert error.help == f"write widths up to {width}"
    assert place is not None
