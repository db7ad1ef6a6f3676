"""Which paths are read: files on a disk, and below a folder if there is a limit."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kdspec.source import reach


@pytest.fixture
def tree(tmp_path):
    """A folder with files, folders and links that stay in it or lead out of it; the links by their names."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    for folder in (inside, inside / "deep", outside):
        (folder / "file").write_text("x")
    return inside


@pytest.mark.parametrize(
    ("path", "leads_out"),
    [
        ("file", False),
        ("deep/file", False),
        ("deep/../file", False),
        ("none", False),
        (".", False),
        ("..", True),
        ("../out/file", True),
        ("../in/file", False),
        ("../in2", True),
        ("/etc/passwd", True),
        ("a\0b", True),
        ("x" * 5000, False),
    ],
)
def test_a_path_leads_out_or_not(path, leads_out, tree):
    assert reach.outside(str(Path(tree, path)), str(tree)) == leads_out


@pytest.mark.parametrize("seed", range(20))
def test_links_are_followed_however_many_there_are(seed, tree):
    dice = random.Random(seed)
    leads_out = dice.random() < 0.5
    target = tree.parent / "out" / "file" if leads_out else tree / "deep" / "file"
    for number in range(dice.randrange(1, 6)):
        link = dice.choice([tree, tree / "deep", tree.parent / "out"]) / f"link{number}"
        link.symlink_to(target if dice.random() < 0.5 else os.path.relpath(target, link.parent))
        target = link
    last = tree / "last"
    last.symlink_to(target)
    assert reach.outside(str(last), str(tree)) == leads_out
    assert [name for name, _ in reach.refused_inside(str(tree), str(tree)) if name == "last"] == ["last"] * leads_out


def test_a_circle_of_links_leads_nowhere(tree):
    (tree / "a").symlink_to(tree / "b")
    (tree / "b").symlink_to(tree / "a")
    assert reach.special(str(tree / "a")) is None
    assert not reach.outside(str(tree / "a"), str(tree))


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/root/proc/self/maps", "/sys/kernel", "/dev/null"])
def test_what_is_no_file_on_a_disk_is_special(path, tree):
    if not Path(path).exists():
        pytest.skip("this system has no such file")
    (tree / "link").symlink_to(path)
    assert reach.special(path) is not None
    assert reach.special(str(tree / "link")) == reach.special(path)
    assert [name for name, _ in reach.refused_inside(str(tree), None)] == ["link"]


def test_an_open_file_without_a_name_is_special(tree):
    """Its link in `/proc` says a path at which there is nothing, or another file."""
    with (tree / "gone").open("w") as opened:
        (tree / "gone").unlink()
        (tree / "link").symlink_to(f"/proc/{os.getpid()}/fd/{opened.fileno()}")
        assert Path(tree / "link").is_file()
        assert reach.special(str(tree / "link")) == "a file of `/proc`"


def test_a_folder_of_very_many_files_is_not_read_where_there_is_a_limit(tree):
    assert [*reach.refused_inside(str(tree), str(tree), limit=1)] == [(".", "has more than 1 files")]
    assert [*reach.refused_inside(str(tree), None, limit=1)] == []
