"""Every file, folder and function that the pages for contributors name exists, and the layers are those of the tests."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from kdspec.cli import main
from kdspec.testing import tiny

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PLACES = {page: (ROOT / page).read_text(encoding="utf-8") for page in ("docs/architecture.md", "CONTRIBUTING.md")}
CALL = re.compile(r"^\| (\d+) \| `([\w/.]+)` \| `([\w.]+)` \| (\S.*) \|$", re.MULTILINE)
SPEC = """\
kdspec: 1
name: walked
tasks:
  t: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label, max_length: 8}}
models:
  teacher: {transformers: {path: ./teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  s:
    distiller:
      general: {teacher: teacher, student: student, matches: [{feature: hidden, loss: hidden_mse, layers: last}]}
    training: {epochs: 1, batch_size: 4, teacher_cache: {use: on, folder: cache}}
"""
STOPS = 17
"""The most that a spec may have on its way from text to `Session`."""


def section(title: str) -> str:
    """The text below a heading of the page, up to the next heading of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


@cache
def names_in(file: str) -> set[str]:
    """The functions, classes and methods of a module: `make`, `Session`, `Session.run`."""
    found = set()
    path = ROOT / file
    for node in ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "").body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PLACES)
def test_every_file_and_folder_that_is_named_exists(page):
    named = re.findall(r"`((?:kdspec|tests|docs|specs|plugins|benchmarks)/[\w./*-]*)", PLACES[page])
    assert named
    assert [path for path in named if not any(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("title", ["The way of a spec", "The way of a batch"])
def test_the_calls_are_numbered_and_each_function_exists(title):
    calls = CALL.findall(section(title))
    assert [int(number) for number, *_ in calls] == list(range(1, len(calls) + 1))
    assert len(calls) == len(re.findall(r"^\| \d", section(title), re.MULTILINE))
    assert [(file, name) for _, file, name, _ in calls if name not in names_in(file)] == []


def test_a_spec_has_few_stops_from_text_to_session():
    calls = CALL.findall(section("The way of a spec"))
    assert calls[-1][2].startswith("Session")
    assert len(calls) <= STOPS


@pytest.mark.slow
def test_a_run_makes_the_calls_in_the_order_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n" + "a,x\nb,y\n" * 4)
    (tmp_path / "spec.yaml").write_text(SPEC)
    tiny(tmp_path / "teacher", layers=2, labels=["x", "y"], seed=1)
    made = calls_of(lambda: main(["run", "spec.yaml"]))
    spec, batch = (CALL.findall(section(title)) for title in ("The way of a spec", "The way of a batch"))
    assert not_in_order(made, spec) == []
    assert not_in_order(made, [call for call in batch if call[2] != "non_finite_error"]) == []


def calls_of(work) -> list[tuple[str, str]]:
    """The functions of kdspec that are called, with their files, in order."""
    made: list[tuple[str, str]] = []
    folder = f"{ROOT}/"

    def note(frame, event, _argument):
        # It sees every call of every library, so that texts are compared and no paths.
        if event == "call" and (file := frame.f_code.co_filename).startswith(f"{folder}kdspec/"):
            # One process alone has a backend of its own.
            made.append((file.removeprefix(folder), frame.f_code.co_qualname.replace("SingleProcess.", "Backend.")))

    sys.setprofile(note)
    try:
        assert work() == 0
    finally:
        sys.setprofile(None)
    return made


def not_in_order(made: Iterable[tuple[str, str]], listed: list[tuple[str, str, str, str]]) -> list[str]:
    """The listed calls from the first on that does not come after the one before it."""
    left = iter(made)
    for index, (_, file, name, _) in enumerate(listed):
        if not any(call == (file, name) for call in left):
            return [each[2] for each in listed[index:]]
    return []


def test_functions_beside_files_in_other_tables_exist():
    pairs = re.findall(r"`(\w+)` (?:of|in) `(kdspec/[\w/]+\.py)`", "".join(PLACES.values()))
    for name, file in pairs:
        assert re.search(rf"^(?:def |class )?{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_the_table_of_layers_is_that_of_the_tests():
    specification = importlib.util.spec_from_file_location("layers", ROOT / "tests" / "test_layers.py")
    layers = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(layers)
    found: dict[int, set[str]] = {}
    number = 0
    for first, folders in re.findall(r"^\| (\d?) *\| (`.*?`) \| ", section("Folders are layers"), re.MULTILINE):
        number = int(first) if first else number
        found.setdefault(number, set()).update(re.findall(r"`(\w+)/?`", folders))
    assert found == {number: {*names.split()} - {"__main__"} for number, names in layers.LAYERS.items()}
