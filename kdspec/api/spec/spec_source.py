"""The source of a spec: its plain data and folder, for rules that need more than the validated spec."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from kdspec.diagnostics.finding import SpecPath
from kdspec.source.variables import Variables

_NOTHING: Final = object()


@dataclass(frozen=True, kw_only=True)
class SpecSource:
    """The plain data of a spec, as written, and its context."""

    data: Any
    """The spec as mappings, lists and scalars, merged with the spec that it extends, without defaults."""
    folder: pathlib.Path = pathlib.Path()
    """Where relative paths in the spec start."""
    trusts_code: bool = False
    """Whether the user allows models to run code from their files. The text of a spec cannot set this."""
    variables: Variables = field(default_factory=Variables)
    """Where values of the environment stand, and what is written instead of them."""

    def at(self, path: SpecPath) -> Any:
        """The value at a path, or None."""
        found = self._written(path)
        return None if found is _NOTHING else found

    def has(self, path: SpecPath) -> bool:
        """Whether something is written at a path."""
        return self._written(path) is not _NOTHING

    def below(self, path: SpecPath, value: Any) -> SpecPath:
        """The first place below a path where this value is written, or else the path itself."""
        return next((at for at, written in _places(self.at(path), path) if at != path and written == value), path)

    def named(self, path: SpecPath, key: str) -> SpecPath:
        """The first place below a path that has this key, or else the path itself."""
        return next((at for at, _ in _places(self.at(path), path) if at != path and at[-1] == key), path)

    def _written(self, path: SpecPath) -> Any:
        found = self.data
        for segment in path:
            if not isinstance(found, (dict, list)):
                return _NOTHING
            try:
                found = found[segment]  # type: ignore[index]  # a wrong segment raises, and is caught
            except (KeyError, IndexError, TypeError):
                return _NOTHING
        return found


def _places(data: Any, path: SpecPath) -> Iterator[tuple[SpecPath, Any]]:
    yield path, data
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))
