"""One pydantic error with its place in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdspec.diagnostics.diagnostic import Edit, Label, Span
from kdspec.registry.registry import Registry
from kdspec.source.document import Document, Path

_LONG = 60
_MANY = 12


@dataclass(frozen=True)
class Mistake:
    """An error and its place; `error` is one of the mappings of `ValidationError.errors`."""

    error: Any
    document: Document
    registry: Registry

    @property
    def type(self) -> str:
        """The error type: pydantic's, or one of kdspec's own."""
        return str(self.error["type"])

    @property
    def message(self) -> str:
        """The message of pydantic or of kdspec's own check."""
        return str(self.error["msg"])

    @property
    def loc(self) -> Path:
        """Its path in the models, including parts that are not in the text."""
        return tuple(self.error["loc"])

    @property
    def context(self) -> dict[str, Any]:
        """The data that the failed check added."""
        return dict(self.error.get("ctx") or {})

    @property
    def seen(self) -> Any:
        """The value at fault."""
        return self.error["input"]

    @cached_property
    def path(self) -> Path:
        """Its path in the text."""
        return self.document.locate(self.loc)

    def value(self, text: str = "") -> Label:
        """Point at the value, or at the key where that is at fault."""
        places = self.document.keys if self.loc[-1:] == ("[key]",) else self.document.values
        return Label(places[self.path], text)

    def rewrite(self, old: str, new: str) -> Edit | None:
        """The edit of a text; None if its written form differs from its value, by escapes or a variable."""
        span = self.document.values[self.path]
        if span.line != span.end_line:
            return None
        written = self.document.sources[span.file].lines[span.line][span.column : span.end_column]
        bare = written[1:-1] if written[:1] in {"'", '"'} else written
        return Edit(span, new) if bare == old else None

    def owner(self, path: Path) -> Span:
        """The key of the mapping at `path`, or the mapping itself if it has none."""
        return self.document.keys.get(path) or self.document.values[path]


def instead(wanted: str, value: Any) -> str:
    """`expected a number, not the string `ten``."""
    return f"expected {wanted}, but there is nothing" if value is None else f"expected {wanted}, not {shown(value)}"


def shown(value: Any) -> str:
    """A value in words."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value}`"
    if isinstance(value, str):
        return f"the string `{value}`" if len(value) <= _LONG else f"a string of {len(value)} characters"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return "a list" if isinstance(value, (list, tuple)) else type(value).__name__


def listed(names: Sequence[str], last: str) -> str:
    """Names in backticks: with `or` as `last`, `a`, `b` or `c`."""
    quoted = [f"`{name}`" for name in names]
    return f" {last} ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def known(names: Sequence[str], kind: str | None = None) -> str:
    """The valid names; for a kind with many components, the command that lists them."""
    if kind is not None and len(names) > _MANY:
        return f"`kdspec list {kind}` lists the {len(names)} known names"
    return f"known here: {', '.join(f'`{name}`' for name in names)}" if names else "none is installed"
