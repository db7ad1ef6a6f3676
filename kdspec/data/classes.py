"""The classes of a task: where their names come from, and which class a written label means.

The names are, in this order: `labels` of the task; those that the data set declares; for numbers from 0 in the rows, or
where no row of `train` has a label, those of the head in the files of a model; else the labels of `train`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from kdspec.api.kinds.context import TaskContext, TrainedHead
from kdspec.data.columns import ColumnPlace
from kdspec.data.label_names import NO_LABEL, SUSPECT, at_least_two, ordered, whole
from kdspec.data.labels import suspects
from kdspec.diagnostics.diagnostic import closest, excerpt, listed
from kdspec.diagnostics.fault import Fault

_RARE = 0.15

Counts = Mapping[str, Counter[str]]
"""For each split how often it has each label, as written."""


@dataclass(frozen=True)
class Naming:
    """Which class a written label means."""

    names: tuple[str, ...] | None
    """The classes in the order of the logits; None: those of the rows of `train`."""
    lent_by: str | None = None
    """The model whose head has lent the names."""
    unlabelled: frozenset[str] = frozenset()
    """Splits whose labels are all one mark that is no class: they have no labels."""
    marks: frozenset[str] = frozenset()
    """Labels that mean none."""
    classes: Mapping[tuple[str, str], str] = field(default_factory=lambda: MappingProxyType({}))
    """The class by split and label, where it is not the label itself."""

    def name(self, split: str, label: str | None) -> str | None:
        """The class of a label; None for none. An unknown label is unchanged."""
        if label is None or split in self.unlabelled or label in self.marks:
            return None
        return self.classes.get((split, label), label)

    def counted(self, counts: Counts) -> dict[str, Counter[str]]:
        """How often each split has each class."""
        found: dict[str, Counter[str]] = {split: Counter() for split in counts}
        for split, of in counts.items():
            for label, number in of.items():
                if (name := self.name(split, label)) is not None:
                    found[split][name] += number
        return found


def count(labels: Mapping[str, Iterable[str | None]]) -> dict[str, Counter[str]]:
    """How often each split has each label."""
    return {split: Counter(label for label in of if label is not None) for split, of in labels.items()}


@dataclass(frozen=True)
class Classes:
    """The classes of a task, and which one each written label means."""

    names: tuple[str, ...]
    """In the order of the logits; empty without rows."""
    naming: Naming


def classes(
    written: Mapping[str, Iterable[str | None]],
    context: TaskContext,
    *,
    column: str,
    at: ColumnPlace,
    labels: Sequence[str] | None = None,
    declared: Sequence[str] | None = None,
) -> Classes:
    """The classes of a task whose labels are names of their own, and what looks wrong about them.

    Args:
        written: the labels of each split, in any order; empty for a task without rows.
        context: has the heads of models, and receives warnings and notes.
        column: the column of the labels.
        at: the task's parameter that names it.
        labels: the names that the task writes.
        declared: the names that the data set declares.

    Raises:
        Fault: KD312 if `train` has fewer than two labels and nothing else names the classes, or none and a loss reads them.
    """
    if not written:
        return Classes(tuple(labels or ()), Naming(None))
    counts = count(written)
    found = naming(counts, context, column=column, at=at, labels=labels, declared=declared)
    counted = found.counted(counts)
    train = counted.get("train", Counter[str]())
    if found.names is None or (context.reads_labels and not train):
        at_least_two(ordered(train), column, at)
    suspects.report(train, context, column=column, at=at, scores=labels is None)
    suspects.without_rows(train, labels or (), context)
    suspects.one_class(counted, context, column=column, at=at)
    return Classes(tuple(ordered(train)) if found.names is None else found.names, found)


def naming(
    counts: Counts,
    context: TaskContext,
    *,
    column: str,
    at: ColumnPlace,
    labels: Sequence[str] | None = None,
    declared: Sequence[str] | None = None,
    asks: bool = True,
) -> Naming:
    """The classes of a task, and what its written labels mean.

    Args:
        counts: the labels of each split as written, by their number.
        context: has the heads of models, and receives a note on each default that was chosen.
        column: the column of the labels.
        at: the task's parameter that names it.
        labels: the names that the task writes.
        declared: the names that the data set declares; labels are then written by them.
        asks: whether many `-1` beside 0 and 1 are an error, since they may be a class.

    Raises:
        Fault: KD312 if `-1` may be a class or the mark of no label.
    """
    given = labels if labels is not None else None if _are_numbers(declared) else declared
    unlabelled = frozenset(_without_labels(counts, given or (), context, column, at))
    known = {split: of for split, of in counts.items() if split not in unlabelled}
    marks = _marks(known, given or (), context, column, at, asks=asks)
    values = {split: [label for label in of if label not in marks] for split, of in known.items()}
    if given is not None:
        renamed = _named(values, given) if labels is not None else {}
        return Naming(tuple(given), unlabelled=unlabelled, marks=marks, classes=renamed)
    names, renamed, lender = _lent(values, context, column, at)
    if names is None:
        return Naming(tuple(declared) if declared else None, unlabelled=unlabelled, marks=marks, classes=_alike(values))
    return Naming(names, lender, unlabelled, marks, renamed)


def _are_numbers(names: Sequence[str] | None) -> bool:
    """Whether the names of a data set are no more than the numbers of its classes."""
    return names is not None and [whole(name) for name in names] == list(range(len(names)))


def _numbers(labels: Iterable[str]) -> list[int] | None:
    """The labels as whole numbers; None if they are not, or there are none."""
    found = [whole(label) for label in labels]
    return [number for number in found if number is not None] if found and None not in found else None


def _without_labels(
    counts: Counts, names: Sequence[str], context: TaskContext, column: str, at: ColumnPlace
) -> Iterable[str]:
    """Splits whose labels are all one text that is no class."""
    train = counts.get("train", Counter())
    classes = {*train, *names}
    numbers = {whole(name) for name in train} | ({*range(len(names))} if names else set())
    for split, of in counts.items():
        if split == "train" or len(of) != 1 or not classes:
            continue
        ((label, number),) = of.items()
        if label in classes or (whole(label) is not None and whole(label) in numbers) or number < 2:
            continue
        if whole(label) is not None or closest(label, classes) is None:
            yield split
            message = (
                f"all {number} rows of `{split}` have `{excerpt(label)}` in `{column}`, which is no class of `train`"
            )
            context.tell(Fault(SUSPECT, f"{message}: they count as rows without a label", at))


def _marks(
    counts: Counts, names: Sequence[str], context: TaskContext, column: str, at: ColumnPlace, *, asks: bool
) -> frozenset[str]:
    """`-1` and `-100` beside the numbers 0 to n - 1."""
    written = {label for of in counts.values() for label in of}
    marks = {label for label in written if whole(label) in NO_LABEL and label not in names}
    if marks and marks == written:
        return frozenset(marks)
    numbers = _numbers(written - marks)
    if not marks or numbers is None or min(numbers) < 0:
        return frozenset()
    classes = max(numbers) + 1
    heads = {head.classes for head in context.heads}
    if sorted(set(numbers)) != [*range(classes)] and not (classes <= len(names) or classes in heads):
        return frozenset()
    train = counts.get("train", Counter())
    rows = train["-1"]
    if asks and classes == 2 and not names and 2 not in heads and rows > _RARE * train.total():
        message = f"{rows:,} of {train.total():,} labels of `train` in `{column}` are `-1`, and the others `0` or `1`"
        help_ = "write `missing: '-1'` if it means that there is none, else `labels: ['-1', '0', '1']`"
        raise Fault("KD312", f"{message}: it may be a class or mean no label", at, help=help_)
    if told := {split: sum(of[mark] for mark in marks) for split, of in counts.items()}:
        where = ", ".join(f"{number} in `{split}`" for split, number in told.items() if number)
        message = (
            f"{listed(sorted(marks))} in `{column}` counts as no label beside the numbers 0 to {classes - 1}: {where}"
        )
        context.tell(Fault(SUSPECT, message, at, help="`labels` can name it as a class"))
    return frozenset(marks)


def _named(values: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[tuple[str, str], str]:
    """The names of labels that are written otherwise: as whole numbers equal to them, or as the numbers of the names."""
    found: dict[tuple[str, str], str] = {}
    by_value = {whole(name): name for name in names}
    equal = None not in by_value and len(by_value) == len(names)
    for split, labels in values.items():
        numbers = _numbers(labels)
        if numbers is None or set(labels) <= set(names):
            continue
        if equal and set(numbers) <= by_value.keys():
            found |= {(split, label): by_value[whole(label)] for label in labels}
        elif not set(labels) & set(names) and min(numbers) >= 0 and max(numbers) < len(names):
            found |= {(split, label): names[number] for label, number in zip(labels, numbers, strict=True)}
    return found


def _alike(values: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], str]:
    """`2.0` as `2` if all labels of `train` are whole numbers and it has that."""
    found: dict[tuple[str, str], str] = {}
    by_value: dict[int | None, str] = {}
    for label in ordered(values.get("train", ())):
        by_value.setdefault(whole(label), label)
    if None not in by_value:
        for split, labels in values.items():
            found |= {(split, label): by_value[whole(label)] for label in labels if whole(label) in by_value}
    return found


def _lent(
    values: Mapping[str, Sequence[str]], context: TaskContext, column: str, at: ColumnPlace
) -> tuple[tuple[str, ...] | None, dict[tuple[str, str], str], str | None]:
    """The names that the head of a model lends, the labels that they are for, and the model."""
    train = values.get("train", ())
    numbers = _numbers(train)
    if numbers is not None and min(numbers) >= 0 and max(numbers) >= 1:
        heads = [head for head in context.heads if head.classes == max(numbers) + 1]
        # Names that are numbers themselves are compared with the rows as other names are, not by position.
        if not heads or (heads[0].labels and _numbers(heads[0].labels) is not None):
            return None, {}, None
        names, classes = _by_number(values, heads[0])
        if heads[0].labels:
            context.tell(_numbers_named(heads, names, column, at))
        return names, classes, heads[0].model if heads[0].labels else None
    if train or not context.heads or context.heads[0].classes < 2:
        return None, {}, None
    head = context.heads[0]
    names, classes = _by_number(values, head)
    others = {split: labels for split, labels in values.items() if _numbers(labels) is None}
    own = {_folded(name): number for number, name in enumerate(names)}
    spelt = {own[_folded(label)]: label for labels in others.values() for label in labels if _folded(label) in own}
    names = tuple(spelt.get(number, name) for number, name in enumerate(names))
    message = f"no row of `train` has a label in `{column}`: the classes are those of `{head.model}`, {listed(names)}"
    context.tell(Fault(SUSPECT, message, at))
    return names, {key: names[whole(key[1]) or 0] for key in classes}, head.model


def _by_number(
    values: Mapping[str, Sequence[str]], head: TrainedHead
) -> tuple[tuple[str, ...], dict[tuple[str, str], str]]:
    """The names of a head, and the labels that are numbers of its logits."""
    train = bool(values.get("train"))
    unnamed = (str(number) if train else f"LABEL_{number}" for number in range(head.classes))
    names = head.labels or tuple(unnamed)
    found: dict[tuple[str, str], str] = {}
    for split, labels in values.items():
        numbers = _numbers(labels)
        if numbers is not None and min(numbers) >= 0 and max(numbers) < head.classes:
            found |= {(split, label): names[number] for label, number in zip(labels, numbers, strict=True)}
    return names, found


def _numbers_named(heads: Sequence[TrainedHead], names: Sequence[str], column: str, at: ColumnPlace) -> Fault:
    meaning = ", ".join(f"{number} is `{excerpt(name)}`" for number, name in enumerate(names[:5]))
    more = ", …" if len(names) > 5 else ""
    message = f"the numbers in `{column}` have the names of `{heads[0].model}`: {meaning}{more}"
    order = [_folded(name) for name in names]
    other = next((head for head in heads if head.labels and [_folded(name) for name in head.labels] != order), None)
    notes = () if other is None else (f"`{other.model}` has other names or another order: {listed(other.labels)}",)
    return Fault(
        SUSPECT, message, at, notes=notes, help="if they mean other classes, write `labels` in the order of the numbers"
    )


def _folded(name: str) -> str:
    """A name without case, blanks, `_` and `-`."""
    return "".join(character for character in name.casefold() if not character.isspace() and character not in "_-")
