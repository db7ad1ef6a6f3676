"""Data sets of ids of queries and passages in ColBERT's format."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.data.files.file_text import FileMistake, kind_of, text_of
from kdspec.data.files.json_rows import parsed
from kdspec.data.files.row_files import RowFiles, RowPlace, arrow, joined
from kdspec.data.numbers import number

_PAIR = 2
_HELP = "a line is `[query, [passage, score], ...]`, or `[query, passage, ...]` without scores"


class Colbert(RowFiles):
    """Examples in ColBERT's format: a line is `[query, [passage, score], ...]` of ids, or `[query, passage, ...]`.

    A row has the columns `query_id`, `document_ids`, `positive_id`, the first passage, which ColBERT takes for the positive, and
    `scores` if the lines have them. In the task `ranking`, `queries` and `corpus` name the files with the texts. Files may
    be compressed: `.gz`, `.bz2`, `.xz`.

    Santhanam et al. 2022, "ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction"
    (https://arxiv.org/abs/2112.01488).
    """

    name = "colbert"

    def _table(self, files: list[Path], at: RowPlace) -> Any:
        return arrow(joined([_read(file) for file in at.each(files)], at), at)

    def _names(self, file: Path) -> Collection[str] | None:
        del file
        return None


def _read(file: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"query_id": [], "document_ids": [], "positive_id": [], "scores": []}
    scored: bool | None = None
    for at, text in enumerate(text_of(file).split("\n"), 1):
        if not text.strip():
            continue
        line = parsed(text, at)
        if not isinstance(line, list) or len(line) < _PAIR:
            what = "a list without a passage" if isinstance(line, list) else kind_of(line)
            raise FileMistake(f"{what} in place of a query and its passages", at, help=_HELP)
        query, *passages = line
        pairs = [passage if isinstance(passage, list) else [passage] for passage in passages]
        if scored is None:
            scored = len(pairs[0]) > 1
        wrong = next((pair for pair in pairs if len(pair) != (_PAIR if scored else 1)), None)
        if wrong is not None:
            expected = "a passage and its score" if scored else "a passage alone"
            raise FileMistake(f"a list of {len(wrong)} in place of {expected}, as in the first line", at, help=_HELP)
        columns["query_id"].append(_id(query, at))
        columns["document_ids"].append([_id(pair[0], at) for pair in pairs])
        columns["positive_id"].append(_id(pairs[0][0], at))
        if scored:
            columns["scores"].append([_score(pair[1], at) for pair in pairs])
    if scored is None:
        raise FileMistake("the file is empty")
    return columns if scored else {name: values for name, values in columns.items() if name != "scores"}


def _id(value: Any, line: int) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise FileMistake(f"{kind_of(value)} in place of an id", line, help=_HELP)
    return str(value).strip()


def _score(value: Any, line: int) -> float:
    found = None if isinstance(value, str) else number(value)
    if found is None:
        what = "NaN or infinity" if isinstance(value, float) else kind_of(value)
        raise FileMistake(f"{what} in place of a score", line, help=_HELP)
    return found


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The data set."""
    return [Colbert]
