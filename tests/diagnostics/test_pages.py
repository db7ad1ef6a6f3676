"""The pages of `kdspec explain`: each wrong example gives its code, and each right one has no errors."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from kdspec.diagnostics.diagnostic import CODES
from kdspec.diagnostics.pages import page
from kdspec.launch.spec_reading import read
from kdspec.registry.registry import load_registry

TINY = Path(__file__).parent.parent / "data" / "tiny"
BASE = """\
kdspec: 1
name: example
tasks:
  reviews:
    sequence_classification:
      data: {csv: {train: reviews.csv, validation: reviews.csv}}
      text: sentence
      label: label
models:
  teacher:
    transformers: {path: ./teacher}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 2}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {epochs: 1}
"""
OUTSIDE = {"KD003", "KD202", "KD203"}
"""Mistakes that are not in a spec, but in a file system or in packages."""
CODES_OF_A_SPEC = [code for code in CODES if code < "KD4" and code not in OUTSIDE]


def found(example, folder):
    """The codes that `kdspec validate` tells of an example, in a spec that has all else."""
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    (folder / "base.yaml").write_text(BASE)
    text = example if "extends:" in example else f"extends: base.yaml\n{example}"
    (folder / "spec.yaml").write_text(text)
    first = example.partition("\n")[0]
    sets = shlex.split(first)[5:] if first.startswith("# kdspec validate spec.yaml --set") else []
    return {d.code for d in read(str(folder / "spec.yaml"), load_registry(installed=False), sets).diagnostics}


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page(code):
    explained = page(code)
    assert explained is not None
    assert explained.text
    assert (explained.wrong is not None) == (explained.right is not None) == (code in CODES_OF_A_SPEC)


@pytest.mark.parametrize("code", CODES_OF_A_SPEC)
def test_the_wrong_example_gives_the_code_and_the_right_one_none(code, tmp_path):
    explained = page(code)
    assert found(explained.wrong, tmp_path / "wrong") == {code}
    assert found(explained.right, tmp_path / "right") == set()


def test_a_code_that_is_not_in_the_table_has_no_page():
    assert page("KD999") is None
    assert page("../codes") is None
