"""The specs that ship with kdspec, and the models and data that they read."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kdspec.cli.spec_library import copied
from kdspec.launch import shipped_specs
from kdspec.launch.shipped_specs import assets_folder, library, to_fetch

SPEC = """\
kdspec: 1
name: one
tasks: {t: {sequence_classification: {data: {csv: {train: FILE}}, text: text, label: label}}}
models: {m: {transformers: {config: {model_type: bert, num_hidden_layers: 1, hidden_size: 8, num_attention_heads: 2, vocab_size: 9}, tokenizer: ./FOLDER}}}
stages: {s: {distiller: {supervised: {model: m}}, training: {steps: 1}}}
"""  # fmt: skip


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An empty working folder, and kdspec as an installed package, without a checkout around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped_specs, "assets_folder", lambda folder: folder / "assets")
    return tmp_path


@pytest.mark.parametrize("name", ["quickstart", "tasks/chinese_names", "recipes/tinybert"])
def test_each_asset_of_a_spec_can_be_fetched(installed, name):
    for asset in copied(name, Path("spec.yaml")).assets:
        assert to_fetch(f"./assets/{asset}/file", Path()) == f"kdspec fetch {asset}"


@pytest.mark.parametrize(
    "path", ["assets/mine/train.csv", "headlines/train.csv", "myassets/headlines/train.csv", "assets"]
)
def test_other_files_are_fetched_by_nothing(installed, path):
    assert to_fetch(path, Path()) is None


@pytest.mark.parametrize("folder", ["", "specs", "a b"])
def test_a_missing_asset_is_answered_with_the_command_that_fetches_it(kdspec, installed, folder):
    spec = installed / folder / "spec.yaml"
    spec.parent.mkdir(exist_ok=True)
    spec.write_text(SPEC.replace("FILE", "assets/headlines/train.csv").replace("FOLDER", "assets/all-MiniLM-L6-v2"))
    outcome = kdspec("validate", str(spec))
    into = f" --into {shlex.quote(f'{folder}/assets')}" if folder else ""
    told = " ".join(outcome.out.split())
    assert f"`kdspec fetch headlines{into}` brings it" in told
    assert f"`kdspec fetch all-MiniLM-L6-v2{into}` brings it" in told
    (spec.parent / "assets" / "headlines").mkdir(parents=True)
    (spec.parent / "assets" / "headlines" / "train.csv").write_text("text,label\na,b\nc,d\n")
    assert "fetch headlines" not in kdspec("validate", str(spec)).out


def test_the_library_is_that_of_this_checkout():
    assert "quickstart" in library()
    assert assets_folder(Path()).parts[-2:] == ("specs", "assets")
