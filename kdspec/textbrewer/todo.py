"""Marks of lines in an imported spec: values that a script computes, or takes from an option of its command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kdspec.textbrewer.files import Read

TODO = "TODO"
"""What is to be found in a spec before it is run."""


def marked(read: Read, line: str, *settings: str) -> str:
    """A line of the spec with what is to be known of these settings of TextBrewer."""
    marks = [
        *(f"{TODO}: `{name}` is `{read.unknown[name]}` in the script" for name in settings if name in read.unknown),
        *(f"the default of {read.defaults[name]}" for name in settings if name in read.defaults),
    ]
    if not marks:
        return line
    return f"{line}{'; ' if ' # ' in line else ' # '}{'; '.join(marks)}"


def marked_last(read: Read, lines: Iterable[str], *settings: str) -> Iterator[str]:
    """The lines of the spec, the last of them marked."""
    *others, last = lines
    yield from others
    yield marked(read, last, *settings)
