"""How a task's texts are read, and what its outputs mean, where there is no kdspec: for the script beside an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Standalone:
    """What the script beside an exported model needs to know of a task; `BuiltTask.standalone` returns it.

    The lines of `answers` are Python with NumPy as `np`. They read `rows`, the texts as a list; `encoded`, for each row or
    window its `tokenizers.Encoding`; `outputs`, the arrays of the model by name; and `config`, the `config.json` beside it.
    For rows of words they read `parts` too: of each encoding the number of its row, its first word and the one after its last.
    They print an answer for each row.
    """

    reads: Literal["text", "pair", "words"]
    """What a row is: a text, two texts that are read as one, or a list of words."""
    max_length: int | None
    """Number of tokens to which a row is truncated; None: it is not."""
    answers: tuple[str, ...]
    """The lines that print the answers."""
    stride: int | None = None
    """For a task that reads the second of two long texts in windows: how many tokens two neighbours share. None: rows are
    truncated, in a pair the longer text."""
    splits: bool = False
    """Whether a row of words that is too long is read in several parts, split between words. Otherwise it is truncated."""
    example: tuple[str, ...] = ()
    """The texts of the example, as Python expressions, for a text that needs something, such as a mask."""
    prompts: tuple[str, ...] = ()
    """What is written before the first text, or word, and before each further one; empty: nothing."""
    bare: str = ""
    """A regular expression for the beginning of words before which nothing is written; needed if words have `prompts`."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """More entries of `config.json`, as JSON values."""
