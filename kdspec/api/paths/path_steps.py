"""A parsed path into a value: its root, its steps, and the error messages when a step fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

Index = int | slice | EllipsisType | None
Subscript = str | Index | tuple[Index, ...]


class FieldPathError(Exception):
    """An error in a path, or when following it, with its place in the text."""

    def __init__(self, message: str, offset: int, length: int) -> None:
        super().__init__(message)
        self.message, self.offset, self.length = message, offset, length


@dataclass(frozen=True)
class PathStep:
    """One step into a value: `.name` (`is_name`) or `[subscript]`, and where it is written."""

    value: Subscript
    is_name: bool
    offset: int
    length: int


@dataclass(frozen=True)
class Reference:
    """A path without a comparison: a root and the steps from it."""

    root: str
    steps: tuple[PathStep, ...]
    module: str | None = None
    side: str | None = None
    offset: int = 0
    length: int = 0

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names right after the root, written `.name` or `["name"]`."""
        names: list[str] = []
        for step in self.steps:
            if not isinstance(step.value, str):
                break
            names.append(step.value)
        return tuple(names)

    @property
    def subscripts(self) -> int | slice | None:
        """The subscript right after the names, if it is one number or one slice: which elements of a list are used."""
        rest = self.steps[len(self.attributes) :]
        value = rest[0].value if rest else None
        return value if isinstance(value, (int, slice)) else None

    def follow(self, roots: Mapping[str, Any]) -> Any:
        """The value at the end of the path. Raises `FieldPathError` at the step that fails."""
        value = roots[self.root]
        if self.module is not None and self.side is not None:
            if self.module not in value:
                known = _list("captured", [str(name) for name in value])
                raise FieldPathError(f"no module `{self.module}`; {known}", self.offset, self.length)
            value = _take(value[self.module], PathStep(self.side, is_name=True, offset=self.offset, length=self.length))
        elif value is None:
            raise FieldPathError(f"there is no `{self.root}`", self.offset, self.length)
        for step in self.steps:
            value = _take(value, step)
        return value


def _take(value: Any, step: PathStep) -> Any:
    try:
        found = _named(value, step.value) if step.is_name and isinstance(step.value, str) else value[step.value]
    except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        message = f"{_shown(step)} does not exist; {_describe(value)}"
        raise FieldPathError(message, step.offset, step.length) from error
    if found is None:
        message = f"{_shown(step)} is None: the model does not return it; {_describe(value)}"
        raise FieldPathError(message, step.offset, step.length)
    return found


def _named(value: Any, name: str) -> Any:
    """The attribute, or else the key. Methods are ignored, so that a key may be called `items`."""
    found = getattr(value, name, None)
    if found is not None and not callable(found):
        return found
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if callable(found) or not hasattr(value, name):
        raise KeyError(name)
    return None


def _shown(step: PathStep) -> str:
    return f"`{step.value}`" if isinstance(step.value, str) else "this subscript"


def _describe(value: Any) -> str:
    """A clause that describes the value in which a step failed."""
    if isinstance(value, Mapping):
        return _list("there are", [str(key) for key in value if value[key] is not None])
    if hasattr(value, "shape"):
        return f"this is a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return f"this is a {type(value).__name__} of {len(value)}"
    fields = value._asdict() if hasattr(value, "_asdict") else getattr(value, "__dict__", {})
    names = [name for name, item in fields.items() if item is not None and not name.startswith("_")]
    return _list("there are", names) if names else f"this is of type {type(value).__name__}"


def _list(verb: str, names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:20])
    return f"{verb} {shown or 'none'}{', …' if len(names) > 20 else ''}"
