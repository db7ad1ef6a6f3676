"""Texts of rows: read, made into tokens, padded."""

from __future__ import annotations

import datasets
import pytest
import transformers

from kdspec.data import texts
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("tiny"), layers=1))


def rows(**columns):
    return datasets.Dataset.from_dict(columns)


def test_numbers_are_texts_as_a_spec_writes_them():
    assert texts.read(rows(text=[1, 2]), "train", "text", ("text",)) == ["1", "2"]
    assert texts.read(rows(text=[True, False]), "train", "text", ("text",)) == ["true", "false"]


@pytest.mark.parametrize(("values", "what"), [(["a", None], "no text"), ([["a"], ["b"]], "a list")])
def test_a_row_without_a_text_is_reported(values, what):
    with pytest.raises(Fault, match=what) as caught:
        texts.read(rows(text=values), "train", "text", ("text", 0))
    assert (caught.value.code, caught.value.at) == ("KD502", ("text", 0))


def test_a_limit_includes_special_tokens(tokenizer):
    columns = [["a b c d e f"]]
    assert len(texts.encode(columns, tokenizer, texts.limit(tokenizer, 4))[0]["input_ids"]) == 4
    with pytest.raises(Fault, match="`max_length` is 2, and the tokenizer's special tokens take 2") as caught:
        texts.limit(tokenizer, 2)
    assert caught.value.at == ("max_length",)
    with pytest.raises(Fault, match="take 3"):
        texts.limit(tokenizer, 3, pair=True)


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(Fault) as caught:
        texts.present(None)
    assert caught.value.code == "KD503"


def test_padding_is_on_the_side_of_the_tokenizer(tokenizer, monkeypatch):
    assert texts.padded([[1, 2, 3], [4]], -100, tokenizer).tolist() == [[1, 2, 3], [4, -100, -100]]
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    assert texts.padded([[1, 2, 3], [4]], -100, tokenizer).tolist() == [[1, 2, 3], [-100, -100, 4]]


def test_a_batch_has_the_columns_of_the_plan(tokenizer):
    batch = texts.collate(texts.encode([["a b", "a"], ["c", "d e"]], tokenizer, None), tokenizer)
    assert batch.keys() == texts.example(2, None, None).keys()
    assert {value.shape for value in batch.values()} == {batch["input_ids"].shape}
    assert texts.example(2, 64, 40)["input_ids"].shape == (2, 40)
