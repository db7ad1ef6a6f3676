"""How many processors a process may use."""

from __future__ import annotations

import pytest

from kdspec.engine.machine import processors


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Puts this process into a cgroup of version 2, `job/step`, with these limits from the outer to the inner one."""
    monkeypatch.setattr(processors, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(processors, "_OWN", tmp_path / "own")

    def make(outer, inner, own="0::/job/step\n"):
        (tmp_path / "own").write_text(own)
        inside = tmp_path / "groups" / "job" / "step"
        inside.mkdir(parents=True)
        for place, text in ((inside.parent, outer), (inside, inner)):
            if text is not None:
                (place / "cpu.max").write_text(text)

    return make


@pytest.mark.parametrize(
    ("outer", "inner", "processors_"),
    [
        ("max 100000\n", "150000 100000\n", 1.5),
        ("200000 100000\n", "400000 100000\n", 2.0),
        ("max 100000\n", "max 100000\n", None),
        (None, None, None),
        ("odd", "1 2 3", None),
    ],
)
def test_the_quota_is_the_least_of_the_groups_around(group, outer, inner, processors_):
    group(outer, inner)
    assert processors.quota() == processors_


def test_without_cgroups_there_is_no_quota(group, tmp_path):
    group("100000 100000", None, own="3:cpu:/job/step\n")
    assert processors.quota() is None
    (tmp_path / "own").unlink()
    assert processors.quota() is None


def test_the_processor_has_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "_INFO", tmp_path / "cpuinfo")
    assert processors.processor_name() != ""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some  Maker X1\nmodel name\t: other\n")
    assert processors.processor_name() == "Some Maker X1"
    assert processors.runs_on() >= 1
