"""A kind of error: its number, its title and its explanation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A kind of error. Its number is never reused for another kind."""

    code: str
    title: str
    text: str
