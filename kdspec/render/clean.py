"""Text of a user or a plugin as a terminal may be given it."""

from __future__ import annotations

import unicodedata

from kdspec.source.secrets import covered

TAB = 4


def clean(text: str) -> str:
    """`text` without characters that move the cursor, hide or reorder what follows, and without secrets; line breaks stay."""
    return "".join(_shown(character) for character in covered(text).replace("\t", " " * TAB))


def cells_of(line: str) -> tuple[str, list[int]]:
    """A line as it is shown, tabs expanded, and for each of its characters, and its end, the index in what is shown."""
    shown: list[str] = []
    places: list[int] = []
    for character in covered(line):
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
