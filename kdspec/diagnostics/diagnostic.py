"""A diagnostic: an error, warning or note with its code, message and place in a file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from kdspec.diagnostics.codes.code import Code
from kdspec.diagnostics.codes.table import CODES

__all__ = [
    "CODES",
    "MANY",
    "Code",
    "Diagnostic",
    "DiagnosticError",
    "Edit",
    "Label",
    "Severity",
    "Span",
    "closest",
    "did_you_mean",
    "excerpt",
    "folded_name",
    "listed",
    "near",
    "one_line",
]

MANY = 12
"""Names that a message lists; of more it says how many there are."""

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, order=True)
class Span:
    """A half-open range of a file: zero-based lines as `str.splitlines` splits them, columns in characters."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Label:
    """A few words at a span."""

    span: Span
    text: str = ""


@dataclass(frozen=True)
class Edit:
    """A replacement of the text at a span."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding. The message is a fact in lower case without a full stop; a note is context, the help an action."""

    code: str
    message: str
    primary: Label | None = None
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None
    edit: Edit | None = None
    severity: Severity = "error"
    cause: BaseException | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        assert "/" in self.code or self.code in CODES, f"{self.code} is neither in CODES nor <distribution>/<code>"

    def __str__(self) -> str:
        """`file:line:col: KD101 message`, counted from one, as editors read it."""
        at = self.primary.span if self.primary else None
        return (f"{at.file}:{at.line + 1}:{at.column + 1}: " if at else "") + f"{self.code} {self.message}"

    @property
    def line(self) -> str:
        """The message and the help on one line."""
        return one_line(self.message, self.help)


class DiagnosticError(Exception):
    """Raised for errors of the user.

    `texts` holds the sources that were read before parsing stopped, by name: they can be quoted even if there is no
    document.
    """

    def __init__(self, *diagnostics: Diagnostic, texts: Mapping[str, str] | None = None) -> None:
        assert diagnostics, "an error has at least one diagnostic"
        super().__init__(*diagnostics)
        self.diagnostics = diagnostics
        self.texts: Mapping[str, str] = MappingProxyType(dict(texts or {}))

    def __str__(self) -> str:
        return "\n".join(map(str, self.diagnostics))


def one_line(message: str, help_: str | None) -> str:
    """A message and its help as a line of a log."""
    return f"{message}; {help_}" if help_ else message


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The one candidate worth suggesting for a misspelt `word`, or None."""
    found = _alike(word, candidates, 1)
    return found[0] if found else None


def near(word: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The names worth suggesting for a misspelt `word`: none, the one that is meant, or two that are as likely.

    Only one name is a safe correction: `adamv` is one letter away from `adam` and from `adamw`.
    """
    names = list(dict.fromkeys(candidates))
    guess = closest(word, names)
    if guess is None:
        return ()
    least = _edits(word, guess)
    others = _alike(word, names, 4)
    return (guess, *[name for name in others if name != guess and _edits(word, name) <= least][:1])


def did_you_mean(names: Sequence[str]) -> str | None:
    """The help that suggests these names; None without any."""
    return f"did you mean {' or '.join(f'`{name}`' for name in names)}?" if names else None


def folded_name(name: str) -> str:
    """The name without what is easily confused: case, spaces around it, and which of spaces, `-` and `_` parts its words."""
    return "_".join(re.split(r"[\s_-]+", name.strip().casefold()))


def _alike(word: str, names: Iterable[str], most: int) -> list[str]:
    """The names that are like a word, best first: first those that differ in case, spaces or dashes alone."""
    spelt: dict[str, list[str]] = {}
    for name in names:
        spelt.setdefault(folded_name(name), []).append(name)
    same = folded_name(word)
    near = [same] if same in spelt else []
    near += [key for key in difflib.get_close_matches(same, spelt, n=most, cutoff=0.6) if key != same]
    return [name for key in near for name in spelt[key]][:most]


def _edits(word: str, other: str) -> int:
    """The number of letters to insert, remove, replace or swap with their neighbour, as in typing; 0 if they fold alike."""
    word, other = folded_name(word), folded_name(other)
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        last, row, older = row, [i], before
        for j, wanted in enumerate(other, 1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted:
                least = min(least, older[j - 2] + 1)
            row.append(least)
        before = last
    return row[-1]


def listed(names: Sequence[str], most: int = MANY) -> str:
    """Names in back-ticks for a message; with the number of those left out."""
    shown = ", ".join(f"`{excerpt(name)}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def excerpt(text: str, limit: int = 60) -> str:
    """`text` for a one-line message: shortened, and without characters that move the cursor."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
