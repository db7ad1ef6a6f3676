"""How much memory is free: the least of what the machine, the container and the process have."""

from __future__ import annotations

import resource

import pytest

from kdspec.data import free_memory as module
from kdspec.data.free_memory import free_memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 8 GB available, and a process in the group `/a/b`; writes more of its files."""
    monkeypatch.setattr(module, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(module, "_OWN", tmp_path / "self")
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")

    write("meminfo", "MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n")
    write("self/cgroup", "0::/a/b\n")
    write("self/statm", "1000 500 1 1 1 1 1\n")
    return write


def group(write, path, limit, used, files):
    write(f"groups/{path}/memory.max", f"{limit}\n")
    write(f"groups/{path}/memory.current", f"{used}\n")
    write(f"groups/{path}/memory.stat", f"anon 1\ninactive_file {files}\nactive_file 0\n")


def test_it_is_what_the_machine_has(system):
    assert free_memory() == 8_000_000 * 1024


def test_a_container_has_less_and_its_cached_files_are_free(system):
    group(system, "a/b", "max", 5, 0)
    group(system, "a", 1_000_000, 900_000, 400_000)
    assert free_memory() == 500_000


def test_a_limit_of_the_process_counts(system, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10_000 * resource.getpagesize(), 0))
    assert free_memory() == 9_000 * resource.getpagesize()


@pytest.mark.parametrize("text", ["", "MemTotal: 1 kB\n", "MemAvailable:\n", "no colon\n"])
def test_a_system_that_does_not_say_it_has_no_limit(system, text):
    system("meminfo", text)
    system("self/cgroup", "1:memory:/a\n")
    assert free_memory() is None


def test_this_machine_says_it():
    assert free_memory() > 0
