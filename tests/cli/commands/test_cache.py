"""`kdspec cache`: filled before a run, listed, removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from kdspec.data import row_cache, texts
from kdspec.data.cache_folder import put
from kdspec.data.ranking import mining
from kdspec.networks import kept_vectors
from kdspec.testing import tiny

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"
TRAINING = "    training: {epochs: 1}"
CACHED = "    training: {epochs: 2, teacher_cache: {use: on, folder: caches}, evaluate: null}"
LIST = ("cache", "--list", "--folder", "caches")


@pytest.fixture
def filled(kdspec, spec):
    path = spec(TRAINING, CACHED)
    tiny(path.parent / "net", layers=4)
    path.write_text(path.read_text().replace(str(TINY / "teacher"), "net"))
    outcome = kdspec("cache", "spec.yaml")
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.mark.slow
def test_a_run_finds_what_was_computed_before(filled, kdspec):
    assert "distil: teacher teacher, " in filled.out
    assert kdspec("run", "spec.yaml").code == 0
    states = [
        json.loads(line) for line in Path("runs/tiny/events.jsonl").read_text().splitlines() if '"CacheState"' in line
    ]
    assert states[-1]["computed"] == 0
    assert states[-1]["hits"] > 0
    assert "0 of" in kdspec("cache", "spec.yaml").out


def test_caches_are_listed_and_removed(filled, kdspec):
    (cached_teachers,) = json.loads(kdspec(*LIST, "--json").out)
    assert (cached_teachers["teacher"], cached_teachers["run"], cached_teachers["features"]) == (
        "teacher",
        "tiny",
        ["hidden", "logits"],
    )
    assert cached_teachers["on_disk"] > 0
    assert cached_teachers["key"][:8] in kdspec(*LIST).out
    assert (
        f"removed {cached_teachers['key']}"
        in kdspec("cache", "--remove", cached_teachers["key"][:6], "--folder", "caches").out
    )
    assert kdspec(*LIST).out.startswith("0 teacher caches")


@pytest.fixture
def encoded_rows(tmp_path, monkeypatch):
    """Three texts encoded and kept in `caches`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "caches"))
    monkeypatch.setattr(row_cache, "LEAST", 0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY / "teacher")
    texts.encode([["a film to\nlike", "another", ""]], tokenizer, None)
    (file,) = (tmp_path / "caches" / row_cache.FOLDER).iterdir()
    return file


def test_encoded_rows_are_listed_and_removed_too(encoded_rows, kdspec):
    (cached_teachers,) = json.loads(kdspec(*LIST, "--json").out)
    assert (cached_teachers["kind"], cached_teachers["key"]) == ("rows", encoded_rows.stem)
    assert (cached_teachers["tokenizer"], cached_teachers["text"], cached_teachers["rows"]) == (
        "teacher",
        "a film to like",
        3,
    )
    assert cached_teachers["on_disk"] == encoded_rows.stat().st_size
    told = kdspec(*LIST).out
    assert f"{cached_teachers['key'][:8]}  teacher    3" in told
    assert "a film to like ..." in told
    assert "0 teacher caches, 0 B; 1 of tokenised rows, " in told
    assert (
        f"removed {cached_teachers['key']}"
        in kdspec("cache", "--remove", cached_teachers["key"][:6], "--folder", "caches").out
    )
    assert not encoded_rows.exists()


def test_encoded_rows_that_are_damaged_can_be_removed(encoded_rows, kdspec):
    encoded_rows.write_bytes(b"x")
    (cached_teachers,) = json.loads(kdspec(*LIST, "--json").out)
    assert (cached_teachers["text"], cached_teachers["rows"], cached_teachers["on_disk"]) == ("", 0, 1)
    assert kdspec("cache", "--remove", "all", "--folder", "caches").code == 0
    assert not encoded_rows.exists()


def test_mined_negatives_and_vectors_of_tokens_are_listed_and_removed_too(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [
        tmp_path / "caches" / mining.FOLDER / f"{'ab' * 32}{mining.SUFFIX}",
        tmp_path / "caches" / kept_vectors.FOLDER / f"{'cd' * 32}{kept_vectors.SUFFIX}",
    ]
    for file in files:
        put(file, b"12345", 100)
    listed = json.loads(kdspec(*LIST, "--json").out)
    assert {each["kind"]: (each["key"], each["on_disk"]) for each in listed} == {
        "mined negatives": ("ab" * 32, 5),
        "vectors of tokens": ("cd" * 32, 5),
    }
    told = kdspec(*LIST).out
    assert "abababab  mined negatives    5 B" in told
    assert "cdcdcdcd  vectors of tokens  5 B" in told
    assert "0 teacher caches, 0 B; 2 of mined negatives and vectors, 10 B; together 10 B" in told
    assert f"removed {'ab' * 32}, 5 B" in kdspec("cache", "--remove", "abab", "--folder", "caches").out
    assert [file.exists() for file in files] == [False, True]
    assert kdspec("cache", "--remove", "all", "--folder", "caches").code == 0
    assert not files[1].exists()


def test_what_is_no_cache_is_never_removed(filled, kdspec, tmp_path):
    (tmp_path / "caches" / "rows").mkdir()
    for name in ("mine.safetensors", "a" * 64):
        (tmp_path / "caches" / "rows" / name).touch()
    (tmp_path / "caches" / "mine").mkdir()
    (tmp_path / "caches" / ("a" * 32)).mkdir()
    assert kdspec("cache", "--remove", "all", "--folder", "caches").code == 0
    assert {path.name for path in (tmp_path / "caches").iterdir()} == {"mine", "a" * 32, "rows"}
    assert {path.name for path in (tmp_path / "caches" / "rows").iterdir()} == {"mine.safetensors", "a" * 64}


def test_an_unknown_key_is_wrong_usage(kdspec, spec):
    outcome = kdspec("cache", "--remove", "abc", "--folder", "caches")
    assert outcome.code == 2
    assert "no key in caches begins with `abc`" in outcome.err


@pytest.mark.parametrize("arguments", [(), ("spec.yaml", "--list"), ("--list", "--remove", "all")])
def test_one_thing_is_done_at_a_time(arguments, kdspec, spec):
    spec()
    assert kdspec("cache", *arguments).code == 2


def test_errors_of_a_spec_are_reported(kdspec, spec):
    spec(TRAINING, "    training: {epochs: 2, teacher_cache: onn}")
    outcome = kdspec("cache", "spec.yaml")
    assert outcome.code == 1
    assert "did you mean `on`?" in outcome.err


def test_a_cache_that_is_off_is_not_filled(kdspec, spec):
    spec(TRAINING, "    training: {epochs: 2, teacher_cache: off}")
    outcome = kdspec("cache", "spec.yaml")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no stage has a frozen teacher that is cached" in outcome.err


def test_a_teacher_that_is_trained_first_has_to_be_trained(kdspec, spec):
    stage = "fine_tune:\n    distiller: {supervised: {model: teacher}}\n    training: {epochs: 1}\n  distil:"
    spec("distil:", stage)
    outcome = kdspec("cache", "spec.yaml")
    assert outcome.code == 3
    assert "teacher `teacher` cannot be cached yet: an earlier stage trains it" in outcome.err
