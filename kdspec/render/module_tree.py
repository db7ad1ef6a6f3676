"""A model's parameter tree as a table and as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.text import Text

from kdspec.render.clean import clean

if TYPE_CHECKING:
    from kdspec.engine.forward.parameter_tree import ModulePart

_MEGABYTE = 1_000_000
_HEADINGS = ("parameters", "share", "memory")


def table(root: ModulePart, depth: int) -> Text:
    """A line per module down to `depth`; a module's tensors are the level below it."""
    rows = list(_rows(root, root.count, depth, ""))
    out = Text(no_wrap=True, overflow="ignore")
    name_width = max(len(name) for name, *_ in rows)
    widths = [max(len(row[column]) for row in (*rows, ("", *_HEADINGS))) for column in (1, 2, 3)]
    columns = zip(_HEADINGS, widths, strict=True)
    out.append(f"{'':<{name_width}}  " + "  ".join(f"{text:>{width}}" for text, width in columns) + "\n", "dim")
    for name, *figures in rows:
        cells = "  ".join(f"{text:>{width}}" for text, width in zip(figures[:3], widths, strict=True))
        out.append(f"{name:<{name_width}}", "cyan").append(f"  {cells}".rstrip())
        out.append(f"  {figures[3]}\n" if figures[3] else "\n", "dim")
    return out


def caption(root: ModulePart) -> str:
    """The totals, and how shared tensors are counted."""
    text = f"{root.parameters:,} parameters"
    if root.buffers:
        text += f" and {root.buffers:,} values in buffers (not trained), both included"
    shared = sum(part.shared is not None for part in _all(root))
    return text + (f"; {shared} shared tensor{'s' if shared > 1 else ''} counted once" if shared else "")


def data(part: ModulePart, depth: int | None = None) -> dict[str, Any]:
    """The tree as plain data down to `depth`."""
    inner = [] if depth == 0 else [data(child, None if depth is None else depth - 1) for child in part.parts]
    found = {"name": part.name, "parameters": part.parameters, "buffers": part.buffers, "bytes": part.bytes}
    if part.shared is not None:
        return {**found, "shared_with": part.shared}
    return {**found, "parts": inner} if inner else found


def _rows(part: ModulePart, total: int, depth: int, indent: str) -> Iterator[tuple[str, ...]]:
    name = indent + clean(part.name)
    if part.shared is not None:
        yield name, "", "", "", f"shared with {clean(part.shared)}"
        return
    share = f"{part.count / total:.1%}" if total else ""
    note = "buffer" if part.buffers and not part.parameters else ""
    yield name, f"{part.count:,}", share, f"{part.bytes / _MEGABYTE:,.1f} MB", note
    if depth > 0:
        for child in part.parts:
            yield from _rows(child, total, depth - 1, indent + "  ")


def _all(part: ModulePart) -> Iterator[ModulePart]:
    yield part
    for child in part.parts:
        yield from _all(child)
