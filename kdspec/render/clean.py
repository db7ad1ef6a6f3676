"""Makes text from users and plugins safe for a terminal and a page."""

from __future__ import annotations

import unicodedata

from kdspec.source.secrets import covered

TAB = 4


def clean(text: str) -> str:
    """`text` with secrets masked, and without characters that move the cursor or hide or reorder text; keeps line breaks."""
    return visible(covered(text))


def visible(text: str) -> str:
    """`text` without characters that move the cursor or hide or reorder text, tabs expanded; keeps line breaks."""
    # Most lines have none of them, and a page of megabytes has many lines.
    return "\n".join(line if line.isprintable() else _visible(line) for line in text.split("\n"))


def _visible(line: str) -> str:
    return "".join(_shown(character) for character in line.replace("\t", " " * TAB))


def cells_of(line: str) -> tuple[str, list[int]]:
    """The displayed part of a line, tabs expanded, and for each of its characters and its end the index in that text.

    Secrets are masked before a line is split, for part of one is not recognised.
    """
    shown: list[str] = []
    places: list[int] = []
    for character in line:
        places.append(len(shown))
        if character == "\t":
            shown.extend(" " * (TAB - len(shown) % TAB))
        else:
            shown.append(_shown(character))
    return "".join(shown), [*places, len(shown)]


def _shown(character: str) -> str:
    if character == "\n" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return "\N{REPLACEMENT CHARACTER}"
