"""Components and plugins as tables and pages, and as plain data."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from kdspec.api.component import Component
from kdspec.registry.plugins import Plugin, Problem
from kdspec.registry.registry import KINDS, Registry, RegistryEntry
from kdspec.render.clean import clean
from kdspec.render.parameters import Parameter, parameters

_HEADING = "bold"
_NAME = "cyan"
_FAINT = "dim"
_READABLE = 100


def summary(component: type[Component]) -> str:
    """The first sentence of the docstring."""
    first = inspect.cleandoc(component.__doc__ or "").partition("\n\n")[0]
    return clean(" ".join(first.split()))


def called(entry: RegistryEntry, registry: Registry) -> str:
    """The shortest unambiguous name of this entry."""
    return (
        entry.component.name
        if registry.find(entry.component.kind, entry.component.name) == [entry]
        else entry.qualified
    )


def table(registry: Registry, kinds: Sequence[type[Component]], width: int) -> Text:
    """The components of each kind, one a line."""
    out = Text(no_wrap=True, overflow="ignore")
    groups = [(kind, registry.of_kind(kind.kind)) for kind in kinds]
    groups = [(kind, entries) for kind, entries in groups if entries]
    names = [called(entry, registry) for _, entries in groups for entry in entries]
    column = max(map(len, names), default=0)
    for kind, entries in groups:
        out.append(f"{plural(kind)}\n", _HEADING)
        for entry in entries:
            name = called(entry, registry)
            text = summary(entry.component) + ("" if entry.builtin else f" ({provider(entry)})")
            out.append(f"  {name:<{column}}  ", _NAME).append(_fitted(text, width - column - 4) + "\n")
        out.append("\n")
    return out


def page(entry: RegistryEntry, example: str | None, width: int) -> Text:
    """One component in full."""
    component = entry.component
    width = min(width, _READABLE)
    out = Text(no_wrap=True, overflow="ignore")
    out.append(f"{component.words()} ").append(component.name + "\n", f"bold {_NAME}")
    out.append(", ".join(part for part in (provider(entry), location(entry)) if part) + "\n\n", _FAINT)
    out.append(clean(inspect.cleandoc(component.__doc__ or "No documentation.")) + "\n")
    listed = parameters(component)
    if listed:
        out.append("\nParameters\n", _HEADING)
    for parameter in listed:
        out.append_text(_parameter(parameter, width))
    if example is not None:
        out.append("\nIn a spec\n", _HEADING).append(textwrap.indent(example, "  "))
    return out


def data(
    entry: RegistryEntry, registry: Registry, example: str | None = None, *, whole: bool = False
) -> dict[str, Any]:
    """An entry as plain data; `whole` includes all that the page shows."""
    component = entry.component
    brief = {
        "kind": component.kind,
        "name": called(entry, registry),
        "distribution": entry.plugin.distribution,
        "version": entry.plugin.version,
        "summary": summary(component),
    }
    if not whole:
        return brief
    rows = [
        {"name": p.path, "type": p.type, "required": p.required, "default": p.default, "description": p.description}
        for p in parameters(component)
    ]
    doc = inspect.cleandoc(component.__doc__ or "")
    return {**brief, "source": location(entry), "documentation": doc, "parameters": rows, "example": example}


def plugins(registry: Registry) -> Text:
    """The installed plugins, what each provides, and which failed to load and why."""
    out = Text(no_wrap=True, overflow="ignore")
    for plugin in plugin_data(registry):
        out.append(" ".join(filter(None, (plugin["distribution"], plugin["version"]))), f"bold {_NAME}").append("\n")
        for kind, names in plugin["components"].items():
            out.append(f"  {kind.replace('_', ' ')}: {', '.join(names)}\n")
        if plugin["hooks"]:
            out.append(f"  hooks: {', '.join(plugin['hooks'])}\n")
        for problem in plugin["problems"]:
            first, *more = clean(problem["reason"]).splitlines() or [""]
            out.append("  failed to load: ", "bold red").append(f"{clean(problem['origin'])}: {first}\n")
            out.append("".join(f"    {line}\n" for line in more))
    return out


def plugin_data(registry: Registry) -> list[dict[str, Any]]:
    """The plugins by distribution, built-ins first, as plain data."""
    loaded = registry.plugins.loaded
    found: tuple[Plugin | Problem, ...] = (*loaded, *registry.problems)
    keys = dict.fromkeys((p.distribution, p.version) for p in found)
    listed: list[dict[str, Any]] = []
    for distribution, version in keys:
        mine = [p for p in loaded if (p.distribution, p.version) == (distribution, version)]
        entries = [e for e in registry.entries if e.plugin in mine]
        listed.append(
            {
                "distribution": distribution,
                "version": version,
                "components": {
                    kind.kind: names
                    for kind in KINDS
                    if (names := sorted(e.component.name for e in entries if e.component.kind == kind.kind))
                },
                "hooks": sorted({hook for plugin in mine for hook in _hooks(registry, plugin)} - {"kdspec_components"}),
                "problems": [
                    {"name": p.name, "origin": p.origin, "reason": p.reason}
                    for p in registry.problems
                    if (p.distribution, p.version) == (distribution, version)
                ],
            }
        )
    return listed


def plural(kind: type[Component]) -> str:
    """`logit losses`, `schedules`."""
    return kind.words() + ("es" if kind.words().endswith("s") else "s")


def provider(entry: RegistryEntry) -> str:
    """The package and its version."""
    return " ".join(filter(None, (entry.plugin.distribution, entry.plugin.version)))


def location(entry: RegistryEntry) -> str | None:
    """The file and line of the component's source; the path starts at its top package."""
    component = entry.component
    try:
        file = Path(inspect.getfile(component))
        line = inspect.getsourcelines(component)[1]
    except (OSError, TypeError):  # created at run time, or installed without source
        return None
    if entry.plugin.origin.endswith(".py"):
        return f"{entry.plugin.origin}:{line}"
    depth = component.__module__.count(".") + 1 + (file.stem == "__init__")
    return f"{Path(*file.parts[-depth:]).as_posix()}:{line}"


def _hooks(registry: Registry, plugin: Any) -> Iterable[str]:
    callers = registry.plugins.manager.get_hookcallers(plugin.module) or []
    return (caller.name for caller in callers)


def _parameter(parameter: Parameter, width: int) -> Text:
    out = Text("  ").append(parameter.path, _NAME).append(f"  {parameter.type}; {parameter.presence}\n")
    text = textwrap.fill(parameter.description, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return out.append(clean(text) + "\n") if text else out


def _fitted(text: str, width: int) -> str:
    width = max(width, 20)
    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"
