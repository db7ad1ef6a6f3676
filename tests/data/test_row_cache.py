"""Encoded texts on the disk: the same rows, by content, checked, and with a bound."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from safetensors.torch import save

from kdspec.data import row_cache, texts
from kdspec.testing import tiny

TEXTS = [["a b c", "", "d e f g h"], ["x", "a c", "b"]]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("tiny"), layers=1)


@pytest.fixture
def tokenizer(home):
    return transformers.AutoTokenizer.from_pretrained(home)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that there are, where texts of any size are kept."""
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "caches"))
    monkeypatch.setattr(row_cache, "LEAST", 0)
    return lambda: sorted((tmp_path / "caches" / row_cache.FOLDER).iterdir())


@pytest.fixture
def made(monkeypatch):
    """How often texts were made into tokens."""
    count = []
    make = texts._encode
    monkeypatch.setattr(texts, "_encode", lambda *args: count.append(1) or make(*args))
    return count


def test_rows_are_read_as_they_were_made(tokenizer, files, made):
    first = texts.encode(TEXTS, tokenizer, None)
    tokenizer.pad([{"input_ids": [1]}], padding="max_length", max_length=9)  # leaves settings behind
    second = texts.encode(TEXTS, tokenizer, None)
    assert second == first
    assert len(made) == len(files()) == 1
    assert {type(number) for row in second for values in row.values() for number in values} == {int}


def test_other_texts_limits_and_tokenizers_have_other_rows(tokenizer, home, files, made):
    other = transformers.AutoTokenizer.from_pretrained(home, additional_special_tokens=["[NEW]"])
    texts.encode(TEXTS, tokenizer, None)
    texts.encode(TEXTS, tokenizer, 4)
    texts.encode(TEXTS, other, None)
    texts.encode([["a b c"], ["x"]], tokenizer, None)
    texts.encode([["a b", "c"]], tokenizer, None)
    texts.encode([["a", "b c"]], tokenizer, None)
    assert len(made) == len(files()) == 6


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other type"])
def test_a_damaged_file_is_replaced(tokenizer, files, made, damage):
    first = texts.encode(TEXTS, tokenizer, None)
    (file,) = files()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    other = save({"lengths": torch.ones(2, dtype=torch.bfloat16)})
    file.write_bytes({"cut": data[:-5], "flip": data, "empty": b"", "other type": other}[damage])
    assert texts.encode(TEXTS, tokenizer, None) == first
    assert len(made) == 2
    assert texts.encode(TEXTS, tokenizer, None) == first
    assert len(made) == 2


def test_several_runs_write_and_read_the_same_file_at_once(home, files):
    tokenizers = [transformers.AutoTokenizer.from_pretrained(home) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: texts.encode(TEXTS, tokenizers[number % 4], None), range(4)))
    assert all(rows == found[0] for rows in found)
    assert [file.suffix for file in files()] == [".safetensors"]


def test_few_texts_are_not_kept(tokenizer, files, made, monkeypatch):
    monkeypatch.setattr(row_cache, "LEAST", 100)
    texts.encode(TEXTS, tokenizer, None)
    texts.encode(TEXTS, tokenizer, None)
    assert len(made) == 2


def test_a_disk_that_refuses_costs_nothing_but_time(tokenizer, tmp_path, monkeypatch, made):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(row_cache, "LEAST", 0)
    assert len(texts.encode(TEXTS, tokenizer, None)) == 3


def test_the_least_recently_used_rows_are_evicted(tokenizer, files, monkeypatch):
    for limit in (4, 5, 6):
        texts.encode(TEXTS, tokenizer, limit)
        for age, file in enumerate(sorted(files(), key=lambda file: -file.stat().st_mtime)):
            os.utime(file, (1000 - age, 1000 - age))
    kept = sorted(files(), key=lambda file: file.stat().st_mtime)
    monkeypatch.setattr(row_cache, "MOST", 3.5 * kept[0].stat().st_size)
    texts.encode(TEXTS, tokenizer, 7)
    assert len(files()) == 3
    assert kept[0] not in files()
