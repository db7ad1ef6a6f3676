"""The files from which a model loads its weights."""

from __future__ import annotations

import json

import pytest

from kdspec.hf.weight_files import weight_files


def filled(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return folder


SHARDS = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
CASES = {
    "one file": ({"model.safetensors": "ab", "optimizer.safetensors": "abc"}, ["model.safetensors"]),
    "shards": (
        {"model.safetensors.index.json": SHARDS, "model-1.safetensors": "a", "model-2.safetensors": "b"},
        ["model-1.safetensors", "model-2.safetensors"],
    ),
    "one file beside shards": (
        {"model.safetensors": "ab", "model.safetensors.index.json": SHARDS, "model-1.safetensors": "a"},
        ["model.safetensors"],
    ),
    "another name": (
        {"config.json": {"transformers_weights": "own.safetensors"}, "own.safetensors": "a", "model.safetensors": "b"},
        ["own.safetensors"],
    ),
    "nothing": ({"config.json": {}}, []),
    "a pickle": ({"pytorch_model.bin": "a"}, []),
}


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES.keys())
def test_they_are_those_that_the_library_loads(files, expected, tmp_path):
    filled(tmp_path / "model", files)
    assert [file.name for file in weight_files("model", None, tmp_path)] == expected
    assert weight_files(None, None, tmp_path) == ()


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES.keys())
def test_those_of_the_hub_are_in_the_download_cache(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--model"
    filled(repository / "snapshots" / "0123", files)
    filled(repository / "refs", {"main": "0123"})
    assert [file.name for file in weight_files("some/model", None, tmp_path)] == expected
    assert weight_files("some/other", None, tmp_path) == ()
    assert weight_files("no/name/of/the/hub", None, tmp_path) == ()
