"""The differences between two plans, as settings by their path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ABSENT, PRESENT = "nothing", "there"
"""Values shown for a setting that a plan lacks, and for a whole stage, model or term that only one plan has."""


@dataclass(frozen=True)
class PlanChange:
    """A setting that differs, with both values as text."""

    path: str
    old: str
    new: str


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[PlanChange]:
    """The settings that differ between two outlines, whatever their origins, in the order of the new one."""
    before, after = dict(_settings(old, ())), dict(_settings(new, ()))
    changes: dict[tuple[str, ...], PlanChange] = {}
    for path in dict.fromkeys((*after, *before)):
        whole = next((part for end in range(1, len(path)) if _one_sided(part := path[:end], before, after)), path)
        changes[whole] = PlanChange(".".join(whole), before.get(whole, ABSENT), after.get(whole, ABSENT))
    return [change for change in changes.values() if change.old != change.new]


def _one_sided(path: tuple[str, ...], before: Mapping[Any, str], after: Mapping[Any, str]) -> bool:
    """Whether the path is an item of a list that only one of the plans has."""
    return {before.get(path), after.get(path)} == {None, PRESENT}


def _settings(data: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The settings by path. The value of a component is its name; an item of a list has its own name in the path."""
    if isinstance(data, dict):
        if "origin" in data:
            if "component" in data:
                yield path, str(data["component"])
            data = data.get("parameters", data.get("value", {}))
            if not isinstance(data, dict):
                yield path, _shown(data)
                return
        for key, item in data.items():
            yield from _settings(item, (*path, str(key)))
    elif isinstance(data, list) and data and all(isinstance(item, dict) and "name" in item for item in data):
        for item in data:
            name = str(item["name"])
            yield (*path, name), PRESENT
            yield from _settings({key: part for key, part in item.items() if key != "name"}, (*path, name))
    else:
        yield path, _shown(data)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return str(value)
