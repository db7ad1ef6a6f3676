"""Types of fields that name a file or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from kdspec.api.spec.file_fields import SpecFile, SpecFolderOrHub, SpecText, SpecTokenizer, local_folder
from kdspec.source.document import Located

FILE, MODEL, TOKENIZER = TypeAdapter(SpecFile), TypeAdapter(SpecFolderOrHub), TypeAdapter(SpecTokenizer)
TEXT = TypeAdapter(SpecText)


def refused(adapter, value, folder):
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value, strict=True, context={"folder": folder})
    (error,) = caught.value.errors()
    return error


def taken(adapter, value, folder):
    return adapter.validate_python(value, strict=True, context={"folder": folder})


def test_a_file_is_looked_for_in_the_folder_of_the_spec(tmp_path):
    (tmp_path / "train.csv").touch()
    assert taken(FILE, "train.csv", tmp_path) == "train.csv"
    error = refused(FILE, "trian.csv", tmp_path)
    assert error["type"] == "file_not_found"
    assert error["msg"] == "no file `trian.csv`"
    assert error["ctx"] == {"path": "trian.csv", "near": "train.csv"}


def test_the_suggestion_keeps_the_folder_as_it_is_written(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").touch()
    assert refused(FILE, "./data/trian.csv", tmp_path)["ctx"]["near"] == "./data/train.csv"


def test_a_folder_is_not_a_file(tmp_path):
    assert refused(FILE, str(tmp_path), tmp_path)["msg"].endswith("is a folder, not a file")


@pytest.mark.parametrize("value", ["a\0b", "x" * 5000, "x/" * 3000, "", "~nobody-here/x", "a\nb", "/a/\0/b"])
@pytest.mark.parametrize("adapter", [FILE, MODEL, TOKENIZER])
def test_a_hopeless_path_is_not_found_and_nothing_worse(adapter, value, tmp_path):
    assert refused(adapter, value, tmp_path)["type"] == "file_not_found"


@pytest.mark.parametrize("value", [3, None, ["a"], b"a"])
@pytest.mark.parametrize("adapter", [FILE, MODEL])
def test_what_is_not_a_text_has_the_wrong_type(adapter, value, tmp_path):
    assert refused(adapter, value, tmp_path)["type"] == "string_type"


def test_without_a_spec_nothing_is_looked_for():
    assert FILE.validate_python("nowhere.csv") == "nowhere.csv"
    assert MODEL.validate_python("./nowhere") == "./nowhere"
    assert MODEL.validate_python("./nowhere", context={"registry": None}) == "./nowhere"


def test_a_path_of_an_extended_file_starts_in_that_file_s_folder(tmp_path):
    shared, specs = tmp_path / "shared", tmp_path / "specs"
    shared.mkdir()
    specs.mkdir()
    (shared / "train.csv").touch()
    moved = taken(FILE, Located("train.csv", shared), specs)
    assert type(moved) is str
    assert (specs / moved).resolve() == (shared / "train.csv").resolve()
    assert refused(FILE, Located("trian.csv", shared), specs)["ctx"]["near"] == "../shared/train.csv"
    absolute = str(shared / "train.csv")
    assert taken(FILE, Located(absolute, shared), specs) == absolute


def test_a_folder_needs_a_configuration(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert refused(MODEL, "./model", tmp_path)["msg"] == "the folder `./model` has no `config.json`"
    assert refused(TOKENIZER, "./model", tmp_path)["msg"] == "the folder `./model` has no `tokenizer.json`"
    (folder / "config.json").touch()
    (folder / "vocab.txt").touch()
    assert taken(MODEL, "model", tmp_path) == "model"
    assert taken(TOKENIZER, "model", tmp_path) == "model"
    assert refused(MODEL, "./modle", tmp_path)["ctx"]["near"] == "./model"


@pytest.mark.parametrize("value", ["./model", "/nowhere/model", "~/nowhere/model", "a/b/c", ".."])
def test_what_looks_like_a_folder_must_exist(value, tmp_path):
    assert refused(MODEL, value, tmp_path)["type"] == "file_not_found"


@pytest.mark.parametrize("value", ["bert-base-uncased", "google/electra-small-discriminator", "a.b/c_d-1.0"])
def test_a_name_on_the_hub_is_not_looked_for(value, tmp_path):
    assert taken(MODEL, value, tmp_path) == value
    assert local_folder(value, tmp_path) is None


def test_a_text_that_is_no_name_at_all(tmp_path):
    assert refused(MODEL, "my model", tmp_path)["msg"] == "`my model` is neither a folder nor a name on the hub"


def test_a_hub_name_in_an_extended_file_is_unchanged(tmp_path):
    assert taken(MODEL, Located("owner/name", tmp_path / "other"), tmp_path) == "owner/name"


def test_a_folder_of_an_extended_file_never_turns_into_a_hub_name(tmp_path):
    inner = tmp_path / "inner"
    (inner / "model").mkdir(parents=True)
    (inner / "model/config.json").touch()
    moved = taken(MODEL, Located("model", inner), tmp_path)
    assert local_folder(moved, tmp_path).resolve() == (inner / "model").resolve()
    assert refused(MODEL, Located("./gone", inner), tmp_path)["msg"] == "no folder `./inner/gone`"


def test_an_absolute_path_stays_absolute():
    assert local_folder("/data/model", Path("specs")) == Path("/data/model")


def test_a_text_is_taken_as_it_is_and_the_name_of_a_file_with_one_must_exist(tmp_path):
    (tmp_path / "ask.txt").touch()
    for value in ("ask.txt", "Is {text} good?", "see ask.txt.", "first\nask.txt", "prompt.md"):
        assert taken(TEXT, value, tmp_path) == value
    assert refused(TEXT, "asks.txt", tmp_path)["ctx"] == {"path": "asks.txt", "near": "ask.txt"}
    assert refused(TEXT, 3, tmp_path)["type"] == "string_type"


def test_the_file_of_a_text_in_an_extended_spec_is_beside_that_spec(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/ask.txt").touch()
    located = Located("ask.txt", tmp_path / "base")
    assert taken(TEXT, located, tmp_path) == "./base/ask.txt"
