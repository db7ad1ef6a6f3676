"""Attribute docstrings, read from the source of a class on demand.

pydantic can read them whenever a class is created, but that takes a third of the time of `kdspec validate`.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise


def attribute_docstrings(cls: type) -> dict[str, str]:
    """The docstrings below the attributes of a class and of those it derives from, by attribute.

    A class without a source file has none.
    """
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if parent.__module__.partition(".")[0] not in ("builtins", "abc", "typing", "pydantic"):
            file = getattr(sys.modules.get(parent.__module__), "__file__", None)
            found |= _of_file(file).get(parent.__qualname__, {}) if file else {}
    return found


@cache  # a file has many classes, and parsing it takes most of the time
def _of_file(file: str) -> Mapping[str, Mapping[str, str]]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # the file has changed since it was imported, or is not Python
        return {}
    return dict(_classes(tree, ""))


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The classes below a node, by qualified name."""
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.ClassDef):
            yield f"{prefix}{child.name}", _docstrings(child.body)
            inner = f"{prefix}{child.name}."
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{prefix}{child.name}.<locals>."
        if isinstance(child, ast.stmt):
            yield from _classes(child, inner)


def _docstrings(body: list[ast.stmt]) -> Mapping[str, str]:
    found = {}
    for before, after in pairwise(body):
        if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            found[before.target.id] = inspect.cleandoc(after.value.value)
    return found
