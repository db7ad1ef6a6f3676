"""What differs in the settings of several runs, by their path in the complete spec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdspec.diagnostics.diagnostic import excerpt

NOTHING = "not set"
"""Shown where a run does not have a setting."""
BESIDE = frozenset({"seed", "name"})
"""The settings in which runs of one variant may differ."""
_LONGEST = 60
_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class SettingRow:
    """A setting that differs, with its value in each run."""

    path: str
    values: tuple[Any, ...]
    """The values, `ABSENT` where there is none."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as a spec writes them, shortened."""
        return tuple(NOTHING if value is ABSENT else excerpt(shown(value), _LONGEST) for value in self.values)


class _Absent:
    """The value of a setting that a run does not have."""


ABSENT = _Absent()


def setting_rows(settings: Sequence[Mapping[str, Any]]) -> list[SettingRow]:
    """The settings that are not the same in all runs, in the order of the first run that has them.

    `seed` and `name` are left out. Where a run lacks a whole part of the spec, that part is one row.
    """
    found: list[SettingRow] = []
    rows = [{key: value for key, value in each.items() if key not in BESIDE} for each in settings]
    for path, values in _differing(rows, ()):
        found.append(SettingRow(dotted(path), tuple(values)))
    return found


def dotted(path: _Path) -> str:
    """A path as `--set` takes it: `stages.distil.distiller.general.matches[0].weight`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) and text else f".{part}" if text else str(part)
    return text


def shown(value: Any) -> str:
    """A value on one line, as a spec in YAML may have it."""
    match value:
        case None | bool():
            return json.dumps(value)
        case float():
            return f"{value:.12g}"
        case list():
            return "[" + ", ".join(map(shown, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    return str(value)


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same setting: 2 and 2.0 are, 1 and `true` are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def short_paths(paths: Sequence[str]) -> list[str]:
    """For each path its last part, with as many parts before it as tell it from the others."""
    parts = [path.split(".") for path in paths]
    for size in range(1, max(map(len, parts), default=1) + 1):
        short = [".".join(each[-size:]) for each in parts]
        if len(set(short)) == len(short):
            return short
    return list(paths)


def _differing(values: Sequence[Any], path: _Path) -> Iterator[tuple[_Path, list[Any]]]:
    """The paths below which the values differ, and these values."""
    if all(equal(value, values[0]) for value in values[1:]):
        return
    there = [value for value in values if value is not ABSENT]
    if len(there) == len(values) and all(isinstance(value, dict) for value in there):
        for key in dict.fromkeys(key for value in there for key in value):
            yield from _differing([value.get(key, ABSENT) for value in values], (*path, key))
    elif (
        len(there) == len(values)
        and all(isinstance(value, list) for value in there)
        and len({len(value) for value in there}) == 1
        and any(isinstance(item, dict) for item in there[0])
    ):
        for number in range(len(there[0])):
            yield from _differing([value[number] for value in values], (*path, number))
    else:
        yield path, list(values)
