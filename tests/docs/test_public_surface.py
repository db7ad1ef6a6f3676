"""Plugins, ours and those of others, import what is public: `kdspec` itself, `kdspec.ops`, and the documented library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import kdspec

PACKAGE = Path(kdspec.__file__).parent
ROOT = PACKAGE.parent
BUILTINS = sorted((PACKAGE / "builtins").rglob("*.py"))
PLUGINS = sorted(path for path in (ROOT / "plugins").glob("*/kdspec_*/**/*.py"))


@cache
def library() -> dict[str, set[str]]:
    """The names that docs/library.md lists, by module."""
    listed: dict[str, set[str]] = {}
    module = ""
    for line in (ROOT / "docs" / "library.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ (kdspec\.[\w.]+)$", line):
            module = heading[1]
            listed[module] = set()
        elif row := re.match(r"\| `(\w+)(?:\([^`]*\))?` \|", line):
            listed[module].add(row[1])
    return listed


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The names that a file takes from kdspec, each after its module; an attribute of an imported module is one as well."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "kdspec" for alias in node.names), f"{path}: import kdspec"
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "kdspec":
            continue
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            if whole in library():
                modules[alias.asname or alias.name] = whole
            else:
                yield str(node.module), alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def is_public(module: str, name: str, *, by_path: bool) -> bool:
    """Whether a plugin may import a name; `by_path` also where it is defined, if `kdspec` has the same object."""
    if module.split(".")[:2] == ["kdspec", "ops"]:
        return not name.startswith("_")
    if name in library().get(module, ()):
        return True
    if module == "kdspec" or by_path:
        return name in kdspec.__all__ and getattr(kdspec, name) is getattr(import_module(module), name)
    return False


@pytest.mark.parametrize("path", BUILTINS, ids=lambda path: path.stem)
def test_what_a_built_in_imports_is_public(path):
    assert [pair for pair in imports(path) if not is_public(*pair, by_path=True)] == []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_what_a_package_in_plugins_imports_is_public(path):
    assert [pair for pair in imports(path) if not is_public(*pair, by_path=False)] == []


def test_the_library_lists_modules_and_names_that_exist():
    assert library()
    for module, names in library().items():
        made = import_module(module)
        assert isinstance(made, ModuleType)
        assert [name for name in names if not hasattr(made, name)] == []


def test_private_names_are_not_public():
    assert not is_public("kdspec.ops.mean", "_nothing", by_path=True)
    assert not is_public("kdspec.data.texts", "_fast", by_path=True)
    assert not is_public("kdspec.api.kinds.context", "_nothing", by_path=True)
    assert not is_public("kdspec.api.kinds.context", "BuildContext", by_path=False)
    assert is_public("kdspec.api.kinds.context", "BuildContext", by_path=True)
    assert is_public("kdspec", "BuildContext", by_path=False)
