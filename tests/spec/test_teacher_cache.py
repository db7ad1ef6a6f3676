"""The settings of the teacher cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from kdspec.api.spec.cache_settings import TeacherCacheSettings
from kdspec.spec import teacher_cache
from kdspec.spec.teacher_cache import CacheFacts


@pytest.mark.parametrize(
    ("size", "number"),
    [("20GB", 20_000_000_000), ("1.5kB", 1500), ("2 KiB", 2048), ("3MiB", 3 * 2**20), ("7B", 7), ("1TB", 10**12)],
)
def test_sizes(size, number):
    assert TeacherCacheSettings(budget=size).bytes == number


def test_a_whole_number_is_of_bytes():
    assert TeacherCacheSettings.model_validate({"budget": 1000}).bytes == 1000


@pytest.mark.parametrize("size", ["20", "GB", "-1GB", "20 gigs", "1e3MB", "20gb", "infGB"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ValidationError, match="is not a size such as"):
        TeacherCacheSettings(budget=size)


def test_the_folder_is_that_of_the_spec_then_of_the_environment_then_of_the_user(monkeypatch):
    base = Path("/specs")
    assert teacher_cache.root(TeacherCacheSettings(folder="mine"), base) == Path("/specs/mine")
    assert teacher_cache.root(TeacherCacheSettings(folder="/there"), base) == Path("/there")
    monkeypatch.setenv("KDSPEC_CACHE", "/shared")
    assert teacher_cache.root(TeacherCacheSettings(), base) == Path("/shared")
    monkeypatch.delenv("KDSPEC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert teacher_cache.root(TeacherCacheSettings(), base) == Path("/caches/kdspec/teachers")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert teacher_cache.root(TeacherCacheSettings(), base) == Path("/home/me/.cache/kdspec/teachers")


def test_a_cache_pays_if_the_teacher_takes_much_longer_than_reading():
    base, layers = 2 * 85e6 * 43, 3 * 43 * 768 * 4
    assert teacher_cache.pays(base, layers, "cpu")
    assert teacher_cache.pays(base, 12, "cuda")
    assert not teacher_cache.pays(base, layers, "cuda")
    assert not teacher_cache.pays(1000, 12, "cpu")


def decided(facts, device="cpu", **settings):
    made = teacher_cache.decide(TeacherCacheSettings(**settings), CacheFacts(**facts), device)
    return made.use, made.reason


SLOW, FAST = {"flops": 1e12, "row_bytes": 100}, {"flops": 1.0, "row_bytes": 100}


@pytest.mark.parametrize(
    ("facts", "settings", "expected"),
    [
        ({}, {"use": "off"}, (False, "off")),
        ({"obstacle": "rows differ"}, {"use": "on"}, (False, "rows differ")),
        ({"epochs": 1}, {}, (False, "each row is seen once")),
        ({"epochs": 1}, {"use": "on"}, (True, "if all rows fit into 20GB")),
        (FAST, {}, (False, "recomputing the teacher is as fast as reading the cache")),
        (FAST, {"use": "on"}, (True, "if all rows fit into 20GB")),
        (SLOW, {}, (True, "if rows are seen more than once and all of them fit into 20GB")),
        (SLOW | {"epochs": 3}, {}, (True, "if all of them fit into 20GB")),
        (SLOW | {"epochs": 3, "bytes": 10}, {}, (True, "")),
        (
            SLOW | {"epochs": 3, "bytes": 3e9},
            {"budget": "2GB"},
            (False, "it would take 3 GB, and the budget is 2GB"),
        ),
        ({"bytes": 3e9}, {"use": "on", "budget": "2GB"}, (False, "it would take 3 GB, and the budget is 2GB")),
    ],
)
def test_a_decision_is_a_function_of_settings_and_facts(facts, settings, expected):
    assert decided(facts, **settings) == expected
