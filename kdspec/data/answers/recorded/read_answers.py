"""Reads recorded answers: the rows of a split to logits, each row checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kdspec.api.kinds.recorded import Answer, RecordedRows
from kdspec.data.answers.recorded.answer_classes import ClassNames, class_names
from kdspec.data.answers.recorded.cells import AnswerCell, is_missing, value_of
from kdspec.data.answers.recorded.log_probabilities import LogProbabilities, Tail
from kdspec.data.answers.recorded.logits import RecordedLogits
from kdspec.data.answers.recorded.probabilities import Probabilities
from kdspec.data.answers.recorded.votes import Votes
from kdspec.data.class_match import line, match, renamed
from kdspec.diagnostics.diagnostic import excerpt, listed
from kdspec.diagnostics.fault import Fault

FormName = Literal["probabilities", "logits", "top_k", "votes"]
"""The form of answers by class, as the parameter of the model that names their columns."""


class AnswerForm(Protocol):
    """Reads answers of one form."""

    def names(self, value: Any) -> Iterable[str]:
        """Their names of classes in an answer."""

    def read(self, cell: AnswerCell, value: Any, names: ClassNames) -> list[float] | None:
        """The logits of an answer."""

    def report(self, rows: int) -> Iterator[Fault]:
        """Notes and warnings about all answers."""


@dataclass(frozen=True, kw_only=True)
class AnswerColumns:
    """The columns with a model's answers, as the spec names them."""

    form: FormName
    named: str | Sequence[str] | Mapping[str, str]
    """One column, several of votes, or one for each class."""
    labels: Mapping[str, str] = field(default_factory=dict)
    tail: Tail = "spread"

    @property
    def columns(self) -> dict[tuple[str | int, ...], str]:
        """The columns by the parameter that names each."""
        if isinstance(self.named, str):
            return {(self.form,): self.named}
        pairs = self.named.items() if isinstance(self.named, Mapping) else enumerate(self.named)
        return {(self.form, key): name for key, name in pairs}


@dataclass(frozen=True)
class _Given:
    """An answer as it is written."""

    cell: AnswerCell
    value: Any


def read_answers(columns: AnswerColumns, rows: RecordedRows) -> list[Answer | None]:
    """The logits of each row, None for a row without an answer.

    Raises:
        Fault: KD502 for an answer that cannot be read, with its row; KD403 for classes that are not those of the task.
    """
    form = _form(columns, rows)
    given = [_by_word(rows, each) for each in _cells(columns, rows)]
    flat = [each for of in given for each in of]
    theirs = _names(form, flat)
    names = class_names(_classes(rows, columns, flat), theirs, columns.labels, rows.task)
    _check_names(columns, rows, names, theirs)
    found = [[None if each.value is None else form.read(each.cell, each.value, names) for each in of] for of in given]
    for fault in form.report(len(given)):
        rows.tell(fault)
    given_any = any(each.value is not None for each in flat)
    if (
        not theirs
        and given_any
        and not rows.named
        and not columns.labels
        and columns.form in ("probabilities", "logits")
    ):
        message = f"the lists of `{rows.split}` in {flat[0].cell.shown} are read in the order {listed(names.ours)}"
        help_ = f"write `{line('labels', names.ours)}` in task `{rows.task}`, or mappings of classes in the rows"
        rows.tell(Fault("KD316", message, flat[0].cell.at, help=help_, severity="note"))
    if rows.words is None:
        return [of[0] for of in found]
    return [of if any(each is not None for each in of) else None for of in found]


def named_classes(columns: AnswerColumns, rows: RecordedRows) -> list[str]:
    """The classes that the answers of these rows name, as the spec's mapping renames them, sorted; of lists none.

    Raises:
        Fault: KD502 for an answer that cannot be read, with its row.
    """
    flat = [each for cells in _cells(columns, rows) for each in _by_word(rows, cells)]
    return sorted(set(renamed(_names(_form(columns, rows), flat), columns.labels)))


def _names(form: AnswerForm, given: Iterable[_Given]) -> list[str]:
    """The names of classes in the answers, in the order in which they come."""
    return list(dict.fromkeys(name for each in given if each.value is not None for name in form.names(each.value)))


def _form(columns: AnswerColumns, rows: RecordedRows) -> AnswerForm:
    independent = rows.logits == "labels"
    if columns.form == "probabilities":
        return Probabilities(independent=independent)
    if columns.form == "top_k":
        return LogProbabilities(columns.tail)
    if columns.form == "votes":
        return Votes(independent=independent)
    what = "a number" if rows.logits == "numbers" else "a logit"
    return RecordedLogits(what, suspects=rows.logits != "numbers", one_right=rows.logits == "classes")


def _classes(rows: RecordedRows, columns: AnswerColumns, given: Sequence[_Given]) -> Sequence[str]:
    """The classes of the task; where only the rows of the task name them, and lists are given, as many as the first has."""
    if rows.classes or columns.labels:
        return rows.classes
    first = next((each.value for each in given if each.value is not None), None)
    if columns.form in ("probabilities", "logits") and isinstance(first, list):
        return [str(number) for number in range(len(first))]
    return ()


def _check_names(columns: AnswerColumns, rows: RecordedRows, names: ClassNames, theirs: Sequence[str]) -> None:
    """Raise the fault of classes that are one for a task where their answers cannot be added; warn of names in no row."""
    separate = rows.logits == "numbers" or (rows.logits == "labels" and columns.form != "votes")
    if separate and (merged := names.merged(theirs or columns.labels)) is not None:
        one, other = merged
        target = names.ours[names.of[one]]
        what = "numbers" if rows.logits == "numbers" else "labels that are independent of one another"
        message = f"`{one}` and `{other}` are both `{target}`, and {what} cannot be added"
        raise Fault("KD403", message, ("labels",), help="merge them in the rows, and name each of the task once")
    unused = match(list(columns.labels), theirs).unknown if theirs else ()
    if unused and rows.split == "train":
        message = f"no row of `train` has {listed(unused)}, which `labels` names"
        notes = (f"recorded: {listed(sorted(theirs))}",)
        rows.tell(Fault("KD316", message, ("labels",), help="write the names as they are in the rows", notes=notes))


def _cells(columns: AnswerColumns, rows: RecordedRows) -> Iterator[list[tuple[str, AnswerCell, Any]]]:
    """For each row its cells, each with the key of its column, and the value that it writes."""
    named = columns.columns
    per_class = dict(columns.named) if isinstance(columns.named, Mapping) else {}
    for row, values in enumerate(zip(*(rows.columns[name] for name in named.values()), strict=True)):
        found = []
        for (at, name), value in zip(named.items(), values, strict=True):
            whole = AnswerCell(rows.split, row, name, at)
            parsed = None if is_missing(value) else _parsed(columns, rows, whole, value)
            cell = AnswerCell(rows.split, row, name, at[:1] if per_class else at, columns=per_class)
            found.append((str(at[-1]), cell, parsed))
        yield found


def _parsed(columns: AnswerColumns, rows: RecordedRows, cell: AnswerCell, value: Any) -> Any:
    """The value of a cell; a number of one class, or the vote of one annotator, is a text as it is written."""
    alone = rows.words is None and not isinstance(columns.named, str)
    if alone and isinstance(value, str) and (columns.form != "votes" or value.lstrip()[:1] != "["):
        return value
    return value_of(cell, value)


def _by_word(rows: RecordedRows, cells: Sequence[tuple[str, AnswerCell, Any]]) -> list[_Given]:
    """The answers of a row: one, or one for each word."""
    first = cells[0][1]
    if rows.words is None:
        return [_joined(first, [(key, cell, value) for key, cell, value in cells])]
    words = rows.words[first.row]
    lists = []
    for key, cell, value in cells:
        here = cell.of(key)
        if value is not None and not isinstance(value, list):
            message = f"has a {type(value).__name__} in {here.shown}, not a list with an answer for each word"
            raise here.fault(message, "write a list as long as that of the words")
        if value is not None and len(value) != words:
            message = f"has {len(value)} answers in {here.shown}, and {words} words"
            raise here.fault(message, "write an answer for each word, null for one that has none")
        lists.append([None] * words if value is None else value)
    return [
        _joined(
            first.of_word(word),
            [(key, cell.of_word(word), of[word]) for (key, cell, _), of in zip(cells, lists, strict=True)],
        )
        for word in range(words)
    ]


def _joined(first: AnswerCell, cells: Sequence[tuple[str, AnswerCell, Any]]) -> _Given:
    """The answer in one column, or those of several columns as one."""
    values = {key: None if is_missing(value) else value for key, _, value in cells}
    if len(first.at) == 1 and not first.columns:
        return _Given(first, next(iter(values.values())))
    if not first.columns:
        votes = [value for value in values.values() if value is not None]
        return _Given(first, votes or None)
    absent = [key for key, value in values.items() if value is None]
    if len(absent) == len(values):
        return _Given(first, None)
    if absent:
        here = first.of(absent[0])
        others = ", ".join(f"`{excerpt(first.columns[key])}`" for key, value in values.items() if value is not None)
        raise here.fault(
            f"has no value in {here.shown}, and one in {others}", "write a value for each class, or for none"
        )
    return _Given(first, values)
