"""What a model's JSON files may not say, found before anything is loaded, with the file and the entry."""

from __future__ import annotations

import json

import pytest

from kdspec.hf.configuration_file import damaged_tokenizer, mistakes
from kdspec.testing import check, tiny

SPEC = """\
kdspec: 1
name: x
tasks: {a: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}}
models: {t: {transformers: {path: m}}, s: {transformers: {like: t, config: {num_hidden_layers: 1}}}}
stages:
  d:
    distiller: {general: {teacher: t, student: s, soft_labels: {loss: kl}}}
    training: {steps: 2}
"""
DEEP = "[" * 1_000_000


@pytest.fixture
def folder(tmp_path):
    """A spec's folder with rows, and a model that its tests damage."""
    (tmp_path / "rows.csv").write_text("text,label\na,0\nb,1\n", encoding="utf-8")
    tiny(tmp_path / "m", layers=2, width=12, heads=2)
    return tmp_path


def errors(folder):
    return check(SPEC, folder=folder).errors


def test_a_good_model_has_none(folder):
    assert errors(folder) == ()


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"hidden_size": "many"}, "`hidden_size` in `config.json` of `m`: expected an integer, not the string `many`"),
        ({"hidden_size": 0}, "`hidden_size` in `config.json` of `m`: `0` must be greater than 0"),
        ({"hidden_size": True}, "expected an integer, not `true`"),
        ({"hidden_size": 2**40}, "`1099511627776` must be at most 10,000,000"),
        ({"num_hidden_layers": 2.5}, "`num_hidden_layers` in `config.json` of `m`: expected an integer, not `2.5`"),
        ({"num_hidden_layers": 10**9}, "`1000000000` must be at most 10,000"),
        ({"num_attention_heads": None}, "expected an integer, not `null`"),
        ({"num_attention_heads": [2]}, "expected an integer, not `[2]`"),
        ({"num_attention_heads": 5}, "a width of 12 cannot be split into 5 attention heads"),
        ({"vocab_size": 10**14}, "must be at most 10,000,000"),
        ({"max_position_embeddings": -5}, "`-5` must be greater than 0"),
        ({"hidden_dropout_prob": "x"}, "expected a number, not the string `x`"),
        ({"hidden_dropout_prob": 7}, "`7` is not a probability, from 0 to 1"),
        ({"layer_norm_eps": float("nan")}, "`nan` must be greater than 0"),
        ({"id2label": [1]}, "`id2label` in `config.json` of `m`: expected an object"),
        ({"num_labels": "x"}, "expected an integer"),
        ({"model_type": 3}, "the `model_type` in `config.json` of `m` is no text"),
        ({"model_type": ["bert"]}, "the `model_type` in `config.json` of `m` is no text"),
    ],
)
def test_an_entry_that_no_model_has_is_named_with_its_file(folder, entries, told):
    file = folder / "m" / "config.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(whole | entries), encoding="utf-8")
    (error,) = errors(folder)
    assert error.code == "KD503"
    assert told in error.message
    assert error.help
    assert error.primary.span.line == 3
    file.write_text(json.dumps(whole), encoding="utf-8")
    assert errors(folder) == ()


@pytest.mark.parametrize("text", ['{"model_type": "bert",', DEEP, DEEP + "]" * 1_000_000, "[1]", "3", "null", "", "\0"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_file_that_is_no_object_of_json_is_named(folder, name, text):
    (folder / "m" / name).write_text(text, encoding="utf-8")
    (error,) = errors(folder)
    assert error.code == "KD503"
    assert f"`{name}`" in error.message


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("tokenizer.json", "{}", "it has no `model`"),
        ("tokenizer.json", '{"model": {"vocab": {}}, "added_tokens": [3]}', "`added_tokens.0`"),
        ("tokenizer_config.json", '{"tokenizer_class": 4}', "its `tokenizer_class` is no text"),
    ],
)
def test_a_tokenizer_that_says_something_else_is_damaged(folder, name, text, told):
    (folder / "m" / name).write_text(text, encoding="utf-8")
    (fault,) = damaged_tokenizer(folder / "m", ("path",))
    assert fault.message.startswith(f"`{name}` is damaged: ")
    assert told in fault.message


@pytest.mark.parametrize(
    "content", [b"abc", b"\x05\0\0\0\0\0\0\0{'a':", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 7 + b"\x7f{}"]
)
def test_weights_without_a_header_are_damaged(folder, content):
    (folder / "m" / "model.safetensors").write_bytes(content)
    (error,) = errors(folder)
    assert error.code == "KD503"
    assert error.message.startswith("`model.safetensors` is damaged")


@pytest.mark.parametrize(
    "configuration",
    [
        {"model_type": "of_a_plugin", "hidden_size": [4, 8], "num_attention_heads": [1, 2]},
        {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 3, "embedding_size": None} | {"hidden_size": 9},
        {"model_type": "llama", "head_dim": None, "hidden_size": 64, "num_attention_heads": 4},
        {"model_type": "roberta", "classifier_dropout": None, "id2label": None, "num_labels": 3},
    ],
)
def test_what_a_model_may_say_is_none_of_them(configuration):
    assert list(mistakes(configuration)) == []
