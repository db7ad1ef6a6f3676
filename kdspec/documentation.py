"""Attribute docstrings, read from the source of a class when somebody asks for them.

pydantic can do this for every class as it is made, which costs a third of the time of `kdspec validate`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def attribute_docstrings(cls: type) -> dict[str, str]:
    """The docstrings below the attributes of a class and of those it derives from, by attribute.

    A class whose source is not in a file has none.
    """
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if parent.__module__.partition(".")[0] not in ("builtins", "abc", "typing", "pydantic"):
            found |= _own(parent)
    return found


def _own(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # made in a session, in C, or of text that dedenting breaks
        return {}
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef)] or [[]]
    found = {}
    for before, after in pairwise(body):
        if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            found[before.target.id] = inspect.cleandoc(after.value.value)
    return found
