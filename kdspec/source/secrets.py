"""Secrets: finding them by their form, since a spec must have none, and masking them in quoted text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

RULES = Path(__file__).with_name("secret_rules.json")
"""Providers' prefixes, alphabets and lengths, and other forms of secrets, with their origin."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in a text, from `start` to `end`, without what any secret of its kind begins with."""

    kind: str
    """What it is, as words with an article."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    character: re.Pattern[str]
    at_least: int
    at_most: int | None


@dataclass(frozen=True, slots=True)
class _Rules:
    prefix: re.Pattern[str]
    tokens: Mapping[str, tuple[_Token, ...]]
    """The rules by their prefixes."""
    patterns: tuple[tuple[str, re.Pattern[str]], ...]


def secrets(text: str) -> Iterator[Secret]:
    """The secrets in a text, in linear time."""
    rules = _rules()
    end = 0
    for match in rules.prefix.finditer(text):
        # A prefix within a token is part of it.
        if match.start() >= end and (found := _token(text, match, rules)) is not None:
            end = found.end
            yield found
    for kind, pattern in rules.patterns:
        yield from (Secret(kind, *match.span("secret")) for match in pattern.finditer(text))


def covered(text: str) -> str:
    """The text with its secrets replaced by asterisks; its length and its line breaks are unchanged."""
    shown: list[str] | None = None
    for found in secrets(text):
        shown = shown or list(text)
        for place in range(found.start, found.end):
            shown[place] = shown[place] if shown[place].isspace() else "*"
    return text if shown is None else "".join(shown)


def _token(text: str, match: re.Match[str], rules: _Rules) -> Secret | None:
    start = match.end()
    for token in rules.tokens[match[0]]:
        # Only so many characters as decide are read, or prefixes in a row would take quadratic time.
        most = token.at_least if token.at_most is None else token.at_most + 1
        read = token.character.match(text, start, start + most)
        if read is None or read.end() - start < token.at_least or (token.at_most or most) < read.end() - start:
            continue
        whole = token.character.match(text, start)
        assert whole is not None, "a longer text matches where a shorter one did"
        return Secret(token.kind, start, whole.end())
    return None


@cache
def _rules() -> _Rules:
    written: Any = json.loads(RULES.read_text(encoding="utf-8"))
    tokens: dict[str, list[_Token]] = {}
    for rule in written["tokens"]:
        token = _Token(rule["kind"], re.compile(f"[{rule['alphabet']}]++"), rule["at_least"], rule.get("at_most"))
        for prefix in rule["prefixes"]:
            tokens.setdefault(prefix, []).append(token)
    # The longest first: `sk-proj-` is also a `sk-`.
    prefixes = "|".join(map(re.escape, sorted(tokens, key=lambda prefix: (-len(prefix), prefix))))
    return _Rules(
        re.compile(rf"(?<![A-Za-z0-9])(?:{prefixes})"),
        MappingProxyType({prefix: tuple(found) for prefix, found in tokens.items()}),
        tuple((rule["kind"], re.compile(rule["pattern"])) for rule in written["patterns"]),
    )
