"""Reads the rows of a ranking task: a query and its candidates, their scores and which of them are positive."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kdspec.data import texts
from kdspec.data.columns import ColumnPlace
from kdspec.data.labels.written_lists import parsed
from kdspec.data.numbers import described, number
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

CODE = "KD502"
_COUNTED = "rows are counted from 1"
_OTHERS = "metrics leave such rows out; `negatives: micro_batch` compares with the documents of other rows"


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A query with its candidates."""

    query: str
    documents: tuple[str, ...]
    """Each text once."""
    scores: tuple[float, ...] | None
    """One for each candidate; None if the row has none."""
    positives: tuple[int, ...]
    """The places of the positives among the candidates, in their order; empty without any."""
    repeated: tuple[int, ...] = ()
    """If a candidate is written twice: for each one as it is written its place in `documents`."""

    @property
    def places(self) -> Sequence[int]:
        """For each candidate as it is written its place in `documents`."""
        return self.repeated or range(len(self.documents))

    @property
    def ranks(self) -> bool:
        """Whether the metrics count it: it has a positive and another candidate."""
        return bool(self.positives) and len(self.positives) < len(self.documents)


@dataclass(frozen=True)
class TextsById:
    """The texts of a file by their ids, which rows have in place of texts."""

    file: str
    """Its name in the spec."""
    texts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RankingColumns:
    """The columns of a ranking task."""

    query: str
    documents: Sequence[str]
    scores: Sequence[str] = ()
    """One for all candidates, or one for each column of documents."""
    margins: str | None = None
    positives: str | None = None
    in_batch: bool = False
    """Whether the documents of other rows are negatives, so that a row may have one candidate."""

    def inputs(self) -> dict[ColumnPlace, str]:
        """The columns of texts, by the parameters that name them."""
        return {("query",): self.query, **{("documents", n): name for n, name in enumerate(self.documents)}}

    def recorded(self) -> dict[ColumnPlace, str]:
        """Those of scores or margins."""
        if self.margins is not None:
            return {("margins",): self.margins}
        return {("scores", n): name for n, name in enumerate(self.scores)}


class RowReader:
    """Reads the rows of a split.

    Args:
        columns: their names.
        rows: the rows.
        split: its name, for messages.
        tell: reports what does not stop the run.
        leave_out: whether a candidate without a text is left out, and a row without a candidate; else each is an error.
        queries: the texts of queries, if rows have their ids.
        corpus: the texts of documents, if rows have their ids.
    """

    def __init__(
        self,
        columns: RankingColumns,
        rows: Any,
        split: str,
        tell: Callable[[Fault], None],
        *,
        leave_out: bool,
        queries: TextsById | None = None,
        corpus: TextsById | None = None,
    ) -> None:
        self.columns, self.rows, self.split, self.tell, self.leave_out = columns, rows, split, tell, leave_out
        self._by_id = {"queries": queries, "corpus": corpus}
        self._repeated: list[int] = []
        self._empty: list[int] = []
        self._without: list[int] = []

    def read(self) -> list[QueryRow]:
        """The rows.

        Raises:
            Fault: KD312 for a missing column and for a positive that is not among the candidates, KD502 for a value that
                cannot be read; both name the row.
        """
        names = self.columns
        queries = self._queries()
        documents = [self._texts(name, ("documents", n)) for n, name in enumerate(names.documents)]
        if not self.leave_out:
            for row in range(len(queries)):
                if not any(column[row] for column in documents):
                    help_ = f"{_COUNTED}; `without_text: leave_out` leaves such rows out"
                    raise self._fault(row, "has no candidate", ("documents",), help_)
        scores = self._scores(documents)
        positives = self._positives(documents)
        found = []
        for row, query in enumerate(queries):
            of_row = [column[row] for column in documents]
            made = self._row(row, query, of_row, scores[row], positives[row])
            if made is not None:
                found.append(made)
        self._report(found)
        return found

    def _row(
        self,
        row: int,
        query: str,
        columns: Sequence[Sequence[str | None]],
        scores: Sequence[float] | None,
        positives: Collection[str | None],
    ) -> QueryRow | None:
        """The row with each candidate once; None if it is left out."""
        places: dict[str, int] = {}
        given = [text for column in columns for text in column]
        for place, text in enumerate(given):
            if text is None:
                self._empty.append(row)
            elif text in places:
                self._repeated.append(row)
            else:
                places[text] = place
        if not places:
            self._without.append(row)
            return None
        kept = None if scores is None else tuple(scores[place] for place in places.values())
        right = tuple(place for place, text in enumerate(places) if text in positives)
        order = {text: number for number, text in enumerate(places)}
        repeated = tuple(order[text] for text in given if text is not None) if len(given) > len(places) else ()
        return QueryRow(query, tuple(places), kept, right, repeated)

    def _queries(self) -> list[str]:
        column, at = self.columns.query, ("query",)
        values = texts.read(self.rows, self.split, self._there(column, at), at)
        self._not_ids("queries", [[value] for value in values], column, at)
        return [self._text(row, value, "queries", column, at) for row, value in enumerate(values)]

    def _text(self, row: int, value: str, field: str, column: str, at: ColumnPlace) -> str:
        """The text with this id, or the value where rows have texts."""
        known = self._by_id[field]
        if known is None:
            return value
        if (found := known.texts.get(value.strip())) is None:
            message = f"has the id `{excerpt(value)}` in `{excerpt(column)}`, which `{known.file}` does not have"
            shown = ", ".join(f"`{excerpt(each)}`" for each in islice(known.texts, 3))
            raise self._fault(row, message, at, f"its {len(known.texts):,} ids are like {shown}; {_COUNTED}")
        return found

    def _not_ids(self, field: str, values: Sequence[Sequence[str | None]], column: str, at: ColumnPlace) -> None:
        """Refuse a column of numbers alone where no file has the texts."""
        every = [text for row in values for text in row if text is not None]
        if self._by_id[field] is None and every and all(number(text) is not None for text in every):
            row = next(row for row, given in enumerate(values) if any(given))
            message = f"has the number `{excerpt(every[0])}` in `{excerpt(column)}`, as have all rows, not a text"
            raise self._fault(row, message, at, f"if they are ids, name the file with their texts in `{field}`")

    def _there(self, column: str, at: ColumnPlace) -> str:
        texts.check_column(self.rows, self.split, column, at)
        return column

    def _texts(self, column: str, at: ColumnPlace) -> list[list[str | None]]:
        """The candidates of each row in one column; None for one without a text that is left out."""
        values = self.rows[self._there(column, at)][:]
        if _are_written(values):
            values = [None if value is None else written(value) for value in values]
        found = [[*self._cell(row, value, column, at)] for row, value in enumerate(values)]
        self._not_ids("corpus", found, column, at)
        return [
            [None if text is None else self._text(row, text, "corpus", column, at) for text in given]
            for row, given in enumerate(found)
        ]

    def _cell(self, row: int, value: Any, column: str, at: ColumnPlace) -> Iterator[str | None]:
        for item in value if isinstance(value, (list, tuple)) else [] if _is_nothing(value) else [value]:
            if isinstance(item, (list, tuple, dict, bytes)):
                message = f"has a {type(item).__name__} in `{excerpt(column)}`, not a text or a list of texts"
                raise self._fault(row, message, at)
            if _is_nothing(item) or not str(item).strip():
                if not self.leave_out:
                    help_ = f"{_COUNTED}; `without_text: leave_out` leaves such candidates out"
                    raise self._fault(row, f"has a candidate without a text in `{excerpt(column)}`", at, help_)
                yield None
            else:
                yield texts.as_text(item)

    def _scores(self, documents: Sequence[Sequence[Sequence[Any]]]) -> Sequence[Sequence[float] | None]:
        """The scores of each row; None where it has none."""
        rows, of = len(self.rows), self.columns.recorded()
        if any(name not in self.rows.column_names for name in of.values()) or not of:
            return [None] * rows  # a model that reads them says so
        if self.columns.margins is not None:
            ((at, name),) = of.items()
            return [
                self._from_margins(row, value, name, at, sum(len(column[row]) for column in documents))
                for row, value in enumerate(self.rows[name][:])
            ]
        together = len(of) == 1
        found: list[list[float] | None] = [[] for _ in range(rows)]
        for place, (at, name) in enumerate(of.items()):
            for row, value in enumerate(self.rows[name][:]):
                size = sum(len(column[row]) for column in documents) if together else len(documents[place][row])
                given = self._numbers(row, value, name, at)
                if given is not None and len(given) != size:
                    whose = "" if together else f" in `{excerpt(self.columns.documents[place])}`"
                    counts = f"{_counted(len(given), 'score')} in `{excerpt(name)}` and {_counted(size, 'candidate')}"
                    help_ = f"a score for each candidate, in their order; {_COUNTED}"
                    raise self._fault(row, f"has {counts}{whose}", at, help_)
                so_far = found[row]
                nothing = given is None and size > 0
                found[row] = None if nothing or so_far is None else [*so_far, *(given or ())]
        return found

    def _from_margins(self, row: int, value: Any, name: str, at: ColumnPlace, size: int) -> list[float] | None:
        """Scores with these margins: 0 for the first candidate."""
        given = self._numbers(row, value, name, at)
        if given is None:
            return None
        if len(given) != size - 1:
            counts = f"{_counted(len(given), 'margin')} in `{excerpt(name)}` and {_counted(size, 'candidate')}"
            help_ = f"a margin for each candidate but the first: the first's score minus its own; {_COUNTED}"
            raise self._fault(row, f"has {counts}", at, help_)
        return [0.0, *(-margin for margin in given)]

    def _numbers(self, row: int, value: Any, name: str, at: ColumnPlace) -> list[float] | None:
        """The numbers of a cell; None if it is empty."""
        if _is_nothing(value) and not isinstance(value, float):
            return None
        if isinstance(value, str) and number(value) is None:
            items = written(value)
            if items is None:
                message = f"has {described(value)} in `{excerpt(name)}`, not a number or a list of numbers"
                raise self._fault(row, message, at)
            value = items
        found = []
        for item in value if isinstance(value, (list, tuple)) else [value]:
            made = number(item)
            if made is None:
                what = "NaN" if isinstance(item, float) and math.isnan(item) else described(item)
                help_ = f"write null for a row without scores; {_COUNTED}"
                raise self._fault(row, f"has {what} in `{excerpt(name)}`, not a score", at, help_)
            found.append(made)
        return found

    def _positives(self, documents: Sequence[Sequence[Sequence[str | None]]]) -> Sequence[Collection[str | None]]:
        """The texts of the positives of each row; none for a row without labels."""
        column, rows = self.columns.positives, len(self.rows)
        if column is None or self.split == "unlabelled" or column not in self.rows.column_names:
            return [()] * rows
        if column in self.columns.documents:
            return documents[list(self.columns.documents).index(column)]
        at = ("positives",)
        given = self._texts(column, at)
        for row, wanted in enumerate(given):
            there = {text for each in documents for text in each[row]}
            absent = next((text for text in wanted if text is not None and text not in there), None)
            if absent is not None:
                message = f"has the positive `{excerpt(absent)}`, which is not among its candidates"
                help_ = f"name `{excerpt(column)}` in `documents` too if it is a candidate of its own; {_COUNTED}"
                raise self._fault(row, message, at, help_, code="KD312")
        return given

    def _report(self, found: Sequence[QueryRow]) -> None:
        """Tell what was left out, and how many rows have nothing to rank."""
        alone = [number for number, row in enumerate(found) if len(row.documents) == 1]
        every, split = len(found), self.split
        if not found:
            raise Fault(CODE, f"no row of `{split}` has a candidate", ("documents",))
        if rows := sorted(set(self._repeated)):
            message = f"{_of(rows, every)} of `{split}` {_verb(rows, 'name')} a candidate twice"
            self._tell(message, rows, ("documents",), "the second is left out")
        if rows := sorted(set(self._empty)):
            message = f"{_of(rows, every)} of `{split}` {_verb(rows, 'have')} a candidate without a text"
            self._tell(message, rows, ("without_text",), "it is left out")
        if rows := self._without:
            message = f"{_of(rows, every + len(rows))} of `{split}` {_verb(rows, 'have')} no candidate"
            self._tell(message, rows, ("without_text",), "left out")
        if alone and not self.columns.in_batch:
            message = f"{_of(alone, every)} of `{split}` {_verb(alone, 'have')} one candidate only: nothing to rank"
            self._tell(message, alone, ("documents",), _OTHERS)
        right = [number for number, row in enumerate(found) if 1 < len(row.documents) == len(row.positives)]
        if right and not self.columns.in_batch:
            message = f"{_of(right, every)} of `{split}` {_verb(right, 'have')} positives alone: nothing to rank"
            self._tell(message, right, ("positives",), _OTHERS)

    def _tell(self, message: str, rows: Sequence[int], at: ColumnPlace, help_: str) -> None:
        self.tell(Fault("KD316", f"{message}; the first is row {rows[0] + 1}", at, help=help_))

    def _fault(self, row: int, message: str, at: ColumnPlace, help_: str = _COUNTED, *, code: str = CODE) -> Fault:
        return Fault(code, f"row {row + 1} of `{self.split}` {message}", at, help=help_)


def written(text: str) -> list[Any] | None:
    """The items of a list that is written as a text: JSON, Python's or numpy's; None if it is not one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return parsed(text)
    return found if isinstance(found, list) else None


def _are_written(values: Sequence[Any]) -> bool:
    """Whether all values of a column are lists of texts that are written as texts, as a table writes them."""
    given = [value for value in values if not _is_nothing(value)]
    return bool(given) and all(
        isinstance(value, str) and value.lstrip()[:1] == "[" and bool(written(value)) for value in given
    )


def _is_nothing(value: Any) -> bool:
    return value is None or value == "" or value != value  # noqa: PLR0124 - NaN


def _of(rows: Sequence[int], every: int) -> str:
    return f"{len(rows)} of {_counted(every, 'row')}"


def _verb(rows: Sequence[int], plural: str) -> str:
    return {"have": "has", "name": "names"}[plural] if len(rows) == 1 else plural


def _counted(number_: int, what: str) -> str:
    return f"{number_} {what}{'' if number_ == 1 else 's'}"
