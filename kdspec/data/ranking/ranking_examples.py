"""What a plan knows of the rows of a ranking task from a few of them: the shapes of a batch, and the texts of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdspec.api.kinds.context import Input
from kdspec.data import texts
from kdspec.data.ranking.in_batch import example_ids
from kdspec.data.ranking.ranked_rows import RankingColumns, written
from kdspec.data.ranking.ranking_inputs import Limits

_USUAL = 8
"""Candidates of a row, if no row is known and they are in one column."""

Columns = Mapping[str, Sequence[Any]]


def example(
    columns: RankingColumns,
    first: Columns | None,
    limits: Limits,
    form: str,
    rows: int,
    longest: int | None,
    *,
    mined: int = 0,
) -> dict[str, Input]:
    """The inputs of a batch of rows of the maximum length.

    Args:
        columns: the columns of the task.
        first: the first rows by column, if they are known.
        limits: those of the texts.
        form: that of the reader.
        rows: number of rows.
        longest: the largest number of tokens; None for no other limit than that of the task.
        mined: the number of negatives up to which rows are filled.
    """
    counts = [sum(map(len, each)) for each in _documents(columns, first)]
    most = max(counts, default=max(len(columns.documents), 1 if len(columns.documents) > 1 else _USUAL))
    most = max(most, 1 + mined)
    grid = (rows, most)
    made = {
        "candidates_mask": Input(grid, target=True),
        "answered": Input((rows,), target=True),
        "positives": Input(grid, target=True),
        "labels": Input((rows,), value=0, target=True),
    }
    if form == "scores":
        return {"scores": Input(grid, "float32"), **made}
    candidates = Input(grid, value=0)
    if form != "each":
        return {**texts.example(rows * most, limits.pair, longest), "candidates": candidates, **made}
    sides = (("query", rows, limits.query), ("document", rows * most, limits.document))
    fields = {
        f"{side}.{name}": given
        for side, number, limit in sides
        for name, given in texts.example(number, limit, longest).items()
    }
    ids = example_ids(rows, rows * most) if columns.in_batch else {}
    return {**fields, "queries": Input((rows,), value=0), "candidates": candidates, **made, **ids}


def pairs_of(columns: RankingColumns, first: Columns | None) -> list[list[str]] | None:
    """The query and the candidate of each pair of the first rows; None if they are not known."""
    if first is None or any(name not in first for name in columns.inputs().values()):
        return None
    queries: list[str] = []
    documents: list[str] = []
    for query, given in zip(first[columns.query], _documents(columns, first), strict=True):
        if not isinstance(query, str):
            continue
        for text in (text for column in given for text in column if isinstance(text, str)):
            queries.append(query)
            documents.append(text)
    return [queries, documents] if queries else None


def _documents(columns: RankingColumns, first: Columns | None) -> list[list[list[Any]]]:
    """The candidates of each row, by column."""
    if first is None or any(name not in first for name in columns.documents):
        return []
    given = [first[name] for name in columns.documents]
    return [[_listed(value) for value in row] for row in zip(*given, strict=True)]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    if value is None or value == "":
        return []
    return (written(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else None) or [value]
