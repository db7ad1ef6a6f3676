"""The table at the end of a run."""

from __future__ import annotations

import pytest
from transformers import AutoModel

from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: half
tasks: {t: {sequence_classification: {data: {csv: {train: rows.csv, validation: rows.csv}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {weight: 0}
        matches: [{feature: hidden, loss: hidden_mse, layers: last}]
    training: {steps: 1, batch_size: 2, evaluate: null}
"""


@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
def test_the_size_of_a_teacher_that_no_stage_trains_is_that_of_its_file(half, launch, tmp_path):
    tiny(tmp_path / "teacher", layers=2, width=16)
    if half:
        AutoModel.from_pretrained(tmp_path / "teacher").half().save_pretrained(tmp_path / "teacher")
    (tmp_path / "rows.csv").write_text("text,label\na,0\nb,1\nc,0\nd,1\n")
    ran = launch(text=SPEC)
    rows = {row.model: row for row in ran.result.table}
    assert rows["teacher"].bytes == (tmp_path / "teacher" / "model.safetensors").stat().st_size
    assert rows["student"].bytes == (ran.folder / "student" / "model.safetensors").stat().st_size
    memory = 4 * rows["teacher"].parameters
    assert (rows["teacher"].bytes < 0.7 * memory) == half
