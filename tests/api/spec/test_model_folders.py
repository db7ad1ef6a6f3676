"""Folders without a model, in words."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from kdspec.api.spec.file_fields import SpecFolderOrHub, SpecTokenizer

MODEL, TOKENIZER = TypeAdapter(SpecFolderOrHub), TypeAdapter(SpecTokenizer)
CONFIG = json.dumps({"model_type": "bert", "hidden_size": 8})


def refused(value, folder, adapter=MODEL):
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value, strict=True, context={"folder": folder})
    (error,) = caught.value.errors()
    return error["msg"], error["ctx"]["help"]


def fill(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_an_adapter_is_to_be_merged(tmp_path):
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "owner/base", "task_type": "SEQ_CLS"}
    fill(tmp_path / "teacher", adapter_config__json=json.dumps(adapter), adapter_model__safetensors="")
    message, help_ = refused("teacher", tmp_path)
    assert message == "the folder `teacher` has an adapter, not a model"
    assert "merge it into its base model `owner/base`, and write the folder `teacher-merged`" in help_
    assert "AutoPeftModelForSequenceClassification" in help_


@pytest.mark.parametrize(
    ("inner", "suggested"),
    [
        (["checkpoint-90", "checkpoint-500"], "checkpoint-500"),
        (["0_Transformer"], "0_Transformer"),
        (["model"], "model"),
        (["student", "models/teacher"], "student"),
        (["snapshots/4c1f"], "snapshots/4c1f"),
    ],
)
def test_a_model_in_a_folder_below_is_suggested(inner, suggested, tmp_path):
    for name in inner:
        fill(tmp_path / "out" / name, config__json=CONFIG)
    assert refused("./out", tmp_path) == (
        "the folder `./out` has no `config.json`",
        f"did you mean `./out/{suggested}`?",
    )
    assert MODEL.validate_python(f"./out/{suggested}", strict=True, context={"folder": tmp_path})


def test_the_configuration_of_an_old_release_is_to_be_renamed(tmp_path):
    fill(tmp_path / "rbt3", bert_config__json=json.dumps({"hidden_size": 8}), vocab__txt="a", pytorch_model__bin="")
    message, help_ = refused("rbt3", tmp_path)
    assert message == "the folder `rbt3` has no `config.json`, but a `bert_config.json`"
    assert help_ == 'rename `bert_config.json` to `config.json`, and add `"model_type": "bert"` to it'


def test_a_tokenizer_is_no_model(tmp_path):
    fill(tmp_path / "words", tokenizer__json="{}")
    assert refused("words", tmp_path) == (
        "the folder `words` has a tokenizer and no model",
        "a tokenizer is written as `tokenizer: words`",
    )
    assert TOKENIZER.validate_python("words", strict=True, context={"folder": tmp_path})


def test_weights_without_a_configuration(tmp_path):
    fill(tmp_path / "m", model__safetensors="x")
    assert refused("m", tmp_path)[1] == "put the `config.json` of this model beside `model.safetensors`"


@pytest.mark.parametrize("written", ["model.zip", "./model.tar.gz"])
def test_an_archive_is_to_be_unpacked(written, tmp_path):
    (tmp_path / "model.zip").touch()
    (tmp_path / "model.tar.gz").touch()
    assert refused(written, tmp_path) == (
        f"`{written}` is a file, not a folder",
        "unpack it, and write the folder that is made",
    )
    fill(tmp_path / "inside", model__zip="")
    assert "an archive, `model.zip`" in refused("inside", tmp_path)[0]


def test_a_file_of_a_model_is_not_its_folder(tmp_path):
    fill(tmp_path / "m", config__json=CONFIG, model__safetensors="x")
    assert refused("m/model.safetensors", tmp_path)[1] == "write the folder that it is in, `m`"


@pytest.mark.parametrize("name", ["spm.model", "spiece.model", "my.model", "vocab.txt"])
def test_files_of_tokenizers_are_known(name, tmp_path):
    fill(tmp_path / "words")
    (tmp_path / "words" / name).touch()
    assert TOKENIZER.validate_python("words", strict=True, context={"folder": tmp_path}) == "words"


def test_a_tokenizer_in_a_folder_below_is_suggested(tmp_path):
    fill(tmp_path / "out" / "student", tokenizer__json="{}")
    assert refused("./out", tmp_path, TOKENIZER)[1] == "did you mean `./out/student`?"
