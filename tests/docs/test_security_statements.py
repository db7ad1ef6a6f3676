"""Each statement of SECURITY.md on what a file or a plugin can and cannot do names the tests that hold it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SUBJECTS = ("A spec", "A model folder", "A data file", "A plugin", "A run folder from elsewhere")
_TESTS = re.compile(r"<!-- tests?: ([^>]*?) -->")
_STATEMENT = re.compile(r"^- (?:[^\n]|\n(?!\n|- |#))*", re.MULTILINE)


def sections():
    text = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


STATEMENTS = [
    pytest.param(statement, id=f"{subject}: {statement[2:50].splitlines()[0]}")
    for subject in SUBJECTS
    for statement in _STATEMENT.findall(sections().get(subject, ""))
]


@cache
def names(path):
    """The tests of a module, those of classes with the class before them."""
    found = set()
    for node in ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_each_subject_has_statements():
    assert set(SUBJECTS) <= sections().keys()
    for subject in SUBJECTS:
        assert len(_STATEMENT.findall(sections()[subject])) >= 3, subject


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_names_tests_that_are_there(statement):
    named = [each.strip() for listed in _TESTS.findall(statement) for each in listed.split(",")]
    assert named, f"no test is named after: {statement}"
    for each in named:
        path, _, name = each.partition("::")
        assert (REPOSITORY / path).is_file(), f"no file {path}"
        assert name in names(path), f"{path} has no test {name}"
        assert name.rpartition("::")[2].startswith("test_")
