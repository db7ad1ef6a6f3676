"""What looks wrong among the labels of `train`: one class in two spellings, marks taken as a class, scores as classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from kdspec.api.kinds.context import TaskContext
from kdspec.data.columns import ColumnPlace
from kdspec.data.label_names import SUSPECT, number, ordered, quoted, whole
from kdspec.diagnostics.diagnostic import closest, excerpt
from kdspec.diagnostics.fault import Fault

_RARE = 0.05
_MARKS = frozenset(("nan", "null", "none", "nil", "n/a", "na", "<na>", "nat"))
_FEW_CLASSES = 5
_MANY = 5


def report(
    train: Mapping[str, int],
    context: TaskContext,
    *,
    column: str,
    at: ColumnPlace,
    unit: str = "row",
    scores: bool = True,
) -> None:
    """Tell what looks wrong.

    Args:
        train: how often `train` has each class.
        context: is told.
        column: the column of the labels.
        at: the task's parameter that names it.
        unit: what has a label: a row or a word.
        scores: whether labels may be scores that were meant for a regression.
    """
    faults = [*_alike(train, column, at, unit), *_marks(train, column, at, unit)]
    if scores:
        faults += _scores(train, column, at)
    for fault in faults:
        context.tell(fault)


def one_class(
    counts: Mapping[str, Counter[str]], context: TaskContext, *, column: str, at: ColumnPlace, unit: str = "row"
) -> None:
    """Report a split, other than `train`, whose labels are all of one class where `train` has several."""
    for split, of in counts.items():
        if split != "train" and len(of) == 1 and of.total() >= 10 and len(counts.get("train", ())) > 1:
            ((name, rows),) = of.items()
            message = f"all {rows:,} {unit}s of `{split}` have the label `{excerpt(name)}` in `{column}`"
            help_ = f"if it means that there is none, leave the column out of `{split}`"
            context.tell(Fault(SUSPECT, message, at, help=help_))


def _alike(train: Mapping[str, int], column: str, at: ColumnPlace, unit: str) -> Iterator[Fault]:
    """One class in several spellings: other case, other blanks, or another form of one number."""
    by_key: dict[object, list[str]] = {}
    for name in ordered(train):
        value = whole(name)
        by_key.setdefault("".join(name.casefold().split()) if value is None else value, []).append(name)
    for names in by_key.values():
        if len(names) > 1:
            shown = ", ".join(f"`{excerpt(name)}` ({_counted(train[name], unit)})" for name in names)
            value = whole(names[0])
            why = "differ by case or blanks alone" if value is None else "are one number"
            message = f"labels of `{column}` {why}, and are classes of their own: {shown}"
            yield Fault(SUSPECT, message, at, help="if they mean the same, spell them alike in the rows")


def _marks(train: Mapping[str, int], column: str, at: ColumnPlace, unit: str) -> Iterator[Fault]:
    """Rare classes whose name is no word, or no number among the numbers of the others."""
    total = sum(train.values())
    values = {name: whole(name) for name in train}
    numbers = sorted(value for value in values.values() if value is not None)
    words = 2 * sum(any(map(str.isalpha, name)) for name in train) > len(train)
    # The number that stands beside all those from 0: only the smallest or the largest one can.
    rest = [*range(len(train) - 1)]
    beside = {numbers[at] for at, others in ((0, numbers[1:]), (-1, numbers[:-1])) if numbers and others == rest}
    for name, rows in train.items():
        if rows > max(2, _RARE * total) or len(train) < 3:
            continue
        if values[name] is not None and len(numbers) == len(train):
            odd = values[name] in beside and values[name] != len(train) - 1
        else:
            odd = words and (name.casefold() in _MARKS or _no_word(name, unit))
        if odd:
            message = f"the class `{excerpt(name)}` of `{column}` has {_counted(rows, unit)} of {total:,} in `train`"
            help_ = f"if it means that there is no label, write `missing: {quoted(name)}`"
            yield Fault(SUSPECT, message, at, help=help_)


def _no_word(name: str, unit: str) -> bool:
    """Punctuation is a part of speech, so among tags only the usual marks are no words."""
    return name in ("-", "--", "_", "?") if unit == "word" else not any(character.isalpha() for character in name)


def _scores(train: Mapping[str, int], column: str, at: ColumnPlace) -> Iterator[Fault]:
    values = {name: number(name) for name in train}
    fraction = next((name for name, value in values.items() if value is not None and not value.is_integer()), None)
    help_ = "numbers such as scores are learnt by the task `regression`"
    if fraction is not None and None not in values.values():
        message = (
            f"the labels in `{column}` are numbers with fractions, such as `{excerpt(fraction)}`: {len(train)} classes"
        )
        yield Fault(SUSPECT, message, at, help=help_)
        return
    single = sum(rows == 1 for rows in train.values())
    if len(train) >= _FEW_CLASSES and 2 * single > len(train):
        message = f"{single} of the {len(train)} classes in `{column}` have a single row in `train`"
        yield Fault(SUSPECT, message, at, help=f"is it the column of the labels? {help_}")


def without_rows(present: Collection[str], written: Sequence[str], context: TaskContext) -> None:
    """Tell of the classes of `labels` that are not `present` in `train`; nothing if no row has a label."""
    absent = [(place, name) for place, name in enumerate(written) if name not in present] if present else []
    for place, name in absent[:_MANY]:
        near = closest(name, present)
        loaded = any(name in head.labels for head in context.heads)
        help_ = None if loaded or near is None else f"did you mean `{near}`, which is among `labels` already?"
        context.tell(
            Fault(SUSPECT, f"no row of `train` has the label `{excerpt(name)}`", ("labels", place), help=help_)
        )
    if len(absent) > _MANY:
        context.tell(Fault(SUSPECT, f"no row of `train` has {len(absent) - _MANY} more of `labels`", ("labels",)))


def _counted(rows: int, unit: str) -> str:
    return f"{rows:,} {unit}" if rows == 1 else f"{rows:,} {unit}s"
