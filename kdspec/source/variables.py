"""Environment variables in a spec: what is written instead of their values, wherever something of the spec is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

from kdspec.source.scalars import IntegerTooLargeError, Scalar, resolve

Path = tuple[str | int, ...]

_LEAST = 4
"""Shorter values are left in running text, where they would be found in other words."""
_UNLIKELY = 12
"""From this length on, a value is not found in a text by chance, and is replaced within a word too."""
_SHORTENED = 240
"""The most characters that are looked for before an ellipsis."""
_ROUNDS = 100_000


@dataclass(frozen=True, slots=True)
class Insertion:
    """A scalar with values of the environment in it."""

    written: str
    """The text with `${NAME}` for them, and with the defaults that were used."""
    value: Scalar
    names: frozenset[str]
    plain: bool
    """Whether it was written without quotes, so that the value of a variable may be a number."""


class Written(str):
    """The text of an insertion, for a YAML file: variables in it are variables."""

    __slots__ = ("plain",)
    plain: bool

    @classmethod
    def of(cls, insertion: Insertion, text: str | None = None) -> Written:
        """The text of an insertion, or another text for it."""
        self = cls(insertion.written if text is None else text)
        self.plain = insertion.plain
        return self


@dataclass(frozen=True)
class Variables:
    """The values of the environment in a spec."""

    places: Mapping[Path, Insertion] = field(default_factory=lambda: MappingProxyType({}))
    """Where they stand in the spec."""
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The values by the names of their variables."""
    words: frozenset[str] = frozenset()
    """What the spec itself says, and names of components: these are no secret, and stay as they are."""

    def knowing(self, words: Iterable[str]) -> Variables:
        """With more words that stay as they are."""
        return replace(self, words=self.words | frozenset(words)) if self.values else self

    def beside(self, other: Variables) -> Variables:
        """These and those of another spec; the places are those of the other one."""
        return replace(other, values={**self.values, **other.values}, words=self.words | other.words)

    def hide(self, text: str) -> str:
        """`text` with `${NAME}` in the place of values."""
        # What has been put in is not searched again: a value may be the name of another variable.
        parts = [(text, False)]
        for value, shown in self._hidden:
            if value in text:
                parts = [
                    new for part, done in parts for new in ([(part, True)] if done else _replaced(part, value, shown))
                ]
        if "…" in text:
            parts = [(part if done else self._whole(part), True) for part, done in parts]
        return "".join(part for part, _ in parts)

    def hide_at(self, path: Path, text: str) -> str:
        """As `hide`, for a text about one place of the spec: there, short values and numbers are replaced too."""
        for at, insertion in self.places.items():
            inside = isinstance(insertion.value, str) and path == at[: len(path)]
            if insertion.value is not None and (inside or at == path[: len(at)]):
                for value in {f"{insertion.value}", json.dumps(insertion.value)}:
                    text = text.replace(f"`{value}`", f"`{insertion.written}`")
        return self.hide(text)

    def hide_in(self, data: Any) -> Any:
        """Plain data with `${NAME}` in the place of values in its texts; the keys of mappings too."""
        if not self._hidden:
            return data
        match data:
            case str():
                return self.hide(data)
            case Mapping():
                return {self.hide_in(key): self.hide_in(value) for key, value in data.items()}
            case list() | tuple():
                return [self.hide_in(value) for value in data]
        return data

    def as_written(self, data: Any, path: Path = ()) -> Any:
        """The data of the spec with `Written` texts where it has variables."""
        if (insertion := self.places.get(path)) is not None:
            return Written.of(insertion)
        match data:
            case Mapping():
                return {key: self.as_written(value, (*path, key)) for key, value in data.items()}
            case list() | tuple():
                return [self.as_written(value, (*path, i)) for i, value in enumerate(data)]
        return data

    def named(self, text: str) -> list[str]:
        """The variables that a text with `${NAME}` names."""
        return [name for name in self.values if f"${{{name}}}" in text]

    def fingerprints(self, text: str, salt: str) -> dict[str, str]:
        """What tells whether the variables that a text names have changed, by their names."""
        return {name: fingerprint(salt, self.values[name]) for name in self.named(text)}

    def _whole(self, text: str) -> str:
        """The text with `${NAME}` in the place of values that an ellipsis has shortened."""
        parts = text.split("…")
        for number, part in enumerate(parts[:-1]):
            for value, shown in self._hidden:
                most = min(len(part), len(value) - 1, _SHORTENED)
                kept = next((n for n in range(most, _LEAST, -1) if part.endswith(value[:n])), 0)
                if kept:
                    parts[number] = part[:-kept] + shown
                    break
        return "…".join(parts)

    @cached_property
    def _hidden(self) -> tuple[tuple[str, str], ...]:
        """Each text to replace and what replaces it, the longest first."""
        found: dict[str, str] = {}
        insertions = {one.value: one.written for one in self.places.values() if isinstance(one.value, str)}
        singles = {value: f"${{{name}}}" for name, value in self.values.items()}
        for value, written in {**insertions, **singles}.items():
            if _is_free(value) and value not in self.words:
                found |= dict.fromkeys((form for form in _forms(value) if _is_free(form)), written)
        return tuple(sorted(found.items(), key=lambda item: -len(item[0])))


@cache
def fingerprint(salt: str, value: str) -> str:
    """What tells whether a value has changed, and does not tell the value: each guess at it costs tens of milliseconds."""
    return hashlib.pbkdf2_hmac("sha256", value.encode(errors="surrogatepass"), salt.encode(), _ROUNDS).hex()


def _is_free(value: str) -> bool:
    """Whether a value can be told from other text: numbers, booleans and very short words cannot."""
    if len(value.strip()) < _LEAST:
        return False
    try:
        return isinstance(resolve(value), str) or len(value) >= 8
    except IntegerTooLargeError:
        return True


def _forms(value: str) -> Iterator[str]:
    """A value as messages and files may have it."""
    yield value
    yield value.strip()
    yield " ".join(value.split())
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
    if "/" in value:
        yield os.path.normpath(value)


def _replaced(text: str, value: str, shown: str) -> list[tuple[str, bool]]:
    """The text in parts, each with whether it stands for a value."""
    parts: list[tuple[str, bool]] = []
    done, at = 0, text.find(value)
    while at >= 0:
        end = at + len(value)
        if len(value) < _UNLIKELY and (_within_a_word(text, at, at - 1) or _within_a_word(text, end - 1, end)):
            at = text.find(value, at + 1)
            continue
        parts += [(text[done:at], False), (shown, True)]
        done, at = end, text.find(value, end)
    return [*parts, (text[done:], False)]


def _within_a_word(text: str, inner: int, outer: int) -> bool:
    """Whether the end of a value and the character beside it are of one word."""
    return 0 <= outer < len(text) and text[inner].isalnum() and text[outer].isalnum()
