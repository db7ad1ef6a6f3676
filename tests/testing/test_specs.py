"""Specs in the tests of plugin authors: what is wrong with them, and what comes out of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdspec.api.kinds.losses import LogitLoss
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.testing import check, run

SPEC = """\
kdspec: 1
name: small
tasks: {rows: {tensors: {data: {json: {train: rows.jsonl}}, labels: label}}}
models:
  teacher: {chain: {width: 6, depth: 2, offset: 0.5}}
  student: {chain: {width: 4, depth: 1, offset: 0.0}}
adaptors:
  teacher: {logits: output.logits}
  student: {logits: output.logits, labels: batch.label}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: halved}}}
    training: {steps: 2, batch_size: 2}
"""


class Halved(LogitLoss):
    """Half the squared difference."""

    name = "halved"

    def build(self, context):
        return lambda student, teacher, *, temperature: (student - teacher.detach()).square().mean() / 2


@pytest.fixture
def chain():
    return Path(__file__).parent.parent / "golden" / "chain_plugin.py"


@pytest.fixture
def folder(tmp_path):
    rows = [json.dumps({"ids": [i, 2], "mask": [1, 1], "label": i % 5}) for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_spec_that_is_fine_has_no_diagnostics(chain, folder):
    checked = check(SPEC, chain, Halved, folder=folder)
    assert checked.diagnostics == ()
    assert checked.spec is not None


def test_the_diagnostics_are_those_of_the_check_and_of_the_plan(chain, folder):
    assert [d.code for d in check(SPEC, chain, folder=folder).errors] == ["KD201"]
    without = check(SPEC, chain, Halved, folder=folder, sets=["adaptors.teacher={hidden: output.hidden}"])
    assert [d.code for d in without.errors] == ["KD303"]


def test_a_run_has_a_result_and_is_resumed(chain, folder, tmp_path):
    first = run(SPEC, tmp_path, chain, Halved, folder=folder)
    assert first.folder == tmp_path / "small"
    assert (first.student / "model.safetensors").is_file()
    assert [stage.stage for stage in first.stages] == ["distil"]
    assert run(SPEC, tmp_path, chain, Halved, folder=folder).already_finished
    assert not run(SPEC, tmp_path, chain, Halved, folder=folder, restart=True).already_finished


def test_a_spec_with_errors_is_not_run(chain, folder, tmp_path):
    with pytest.raises(DiagnosticError, match="KD201"):
        run(SPEC, tmp_path / "runs", chain, folder=folder)
    assert not (tmp_path / "runs").exists()
