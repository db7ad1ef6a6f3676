"""The lengths of rows, measured on rows of `train` that are on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from kdspec.data.texts import limit
from kdspec.diagnostics.fault import Fault
from kdspec.rehearsal.result import Lengths

ROWS = 20_000
"""Rows that are sampled."""
CHARACTERS = 400_000
"""Characters that are tokenised, which takes a fraction of a second."""
LONG = 16
"""Rows with the most characters, which are tokenised as well: the one with the most tokens is most likely among them."""


def measured(columns: Sequence[Sequence[str]], tokenizer: Any, max_length: int | None) -> Lengths | None:
    """Median and maximum of the numbers of tokens, from evenly spaced rows and those with the most characters.

    Args:
        columns: one text per row, or two columns of texts for pairs.
        tokenizer: the tokenizer.
        max_length: the limit of the task.
    """
    rows = list(zip(*columns, strict=True))
    if not rows:
        return None
    try:
        longest = limit(tokenizer, max_length, pair=len(columns) == 2)
    except Fault:  # the run reports it
        return None
    sizes = [sum(map(len, row)) for row in rows]
    step = max(1, -(-sum(sizes) // CHARACTERS))
    spaced = range(0, len(rows), step)
    long = sorted(range(len(rows)), key=sizes.__getitem__)[-LONG:]
    chosen = [*spaced, *long]
    texts = [list(column) for column in zip(*(rows[number] for number in chosen), strict=True)]
    encoded = tokenizer(*texts, truncation=longest is not None, max_length=longest, return_attention_mask=False)
    counts = [len(ids) for ids in encoded["input_ids"]]
    return Lengths(median=round(median(counts[: len(spaced)])), longest=max(counts), rows=len(rows))
