"""Recorded log-probabilities of the most likely classes alone, as language models behind an API return them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from kdspec.data.answers.recorded.answer_classes import CODE, ClassNames
from kdspec.data.answers.recorded.cells import AnswerCell, finite, not_finite, without_null
from kdspec.data.answers.recorded.log_space import log, log_sum, logits_of
from kdspec.data.answers.recorded.probabilities import NEAR
from kdspec.data.class_match import shown
from kdspec.data.label_names import written
from kdspec.data.numbers import described
from kdspec.diagnostics.diagnostic import listed
from kdspec.diagnostics.fault import Fault

Tail = Literal["spread", "drop"]
_PAIR = 2
_SHOWN = 5


class LogProbabilities:
    """Reads natural logarithms of the probabilities of some classes.

    Names that are no class of the task, as a language model's other tokens, belong to what is not listed.

    Args:
        tail: what becomes of the probability that is not listed. `spread`: the classes that are not listed have equal parts of
            it; `drop`: they have none, and the listed ones are divided by their sum.
    """

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._seen: set[int] = set()
        self._others: dict[str, int] = {}
        self._without: list[AnswerCell] = []
        self._last: tuple[AnswerCell, ClassNames] | None = None

    def names(self, value: Any) -> Iterable[str]:
        """Their names of classes in an answer."""
        return [name for name, _ in _pairs(value) or ()]

    def read(self, cell: AnswerCell, value: Any, names: ClassNames) -> list[float] | None:
        """The logarithms of the probabilities of all classes; None if none is listed.

        Raises:
            Fault: KD502 for what are no natural logarithms of probabilities.
        """
        pairs = _pairs(value)
        if pairs is None:
            message = f"has {described(value)} in {cell.shown}, not log-probabilities by class"
            raise cell.fault(message, 'write `{"spam": -0.1, "ham": -2.4}`, or a list of pairs `["spam", -0.1]`')
        logs = [(name, _logarithm(cell, name, item)) for name, item in pairs]
        self._check_sum(cell, logs, names)
        by_class: dict[int, list[float]] = {}
        for name, value_ in logs:
            if name in names.of:
                by_class.setdefault(names.of[name], []).append(value_)
            else:
                self._others[name] = self._others.get(name, 0) + 1
        self._last = (cell, names)
        if not by_class:
            self._without += [cell] if pairs else []
            return None
        self._seen |= by_class.keys()
        return self._completed({place: log_sum(each) for place, each in by_class.items()}, len(names.ours))

    def report(self, rows: int) -> Iterator[Fault]:
        """Warnings of classes that are never listed, and of names that are no class.

        Raises:
            Fault: KD403 if no name is a class.
        """
        if self._last is None:
            return
        cell, names = self._last
        others = sorted(self._others, key=lambda name: -self._others[name])
        notes = (f"recorded: {listed(others)}", f"task `{names.task}`: {listed(names.ours)}")
        help_ = "write `labels` in the model: `{theirs: ours}`"
        if not self._seen:
            message = f"no name in {cell.shown} of `{cell.split}` is a class of task `{names.task}`"
            raise Fault(CODE, message, cell.at, help=help_, notes=notes)
        if others:
            count = f"{len(others)} {'name' if len(others) == 1 else 'names'}"
            message = f"{count} in {cell.shown} of `{cell.split}` {'is' if len(others) == 1 else 'are'} no class of task `{names.task}`: {listed(others, _SHOWN)}"
            yield Fault(
                "KD316", message, cell.at, help=f"their probability counts as not listed; if one is a class, {help_}"
            )
        if self._without:
            number, first = len({each.row for each in self._without}), self._without[0]
            message = (
                f"{number:,} of {rows:,} rows of `{cell.split}` list no class of task `{names.task}` in {cell.shown}"
            )
            yield Fault("KD316", message, cell.at, help=f"they have no answer; the first is row {first.row + 1}")
        if lacking := names.lacking(self._seen):
            message = f"no row of `{cell.split}` lists {listed(lacking)} in {cell.shown}"
            yield Fault("KD316", message, cell.at, help=help_ if others else "the student learns that it never occurs")

    def _check_sum(self, cell: AnswerCell, logs: list[tuple[str, float]], names: ClassNames) -> None:
        """Raise the fault of log-probabilities whose probabilities sum to more than 1, or less where all are listed."""
        total = math.fsum(math.exp(each) for _, each in logs)
        complete = len(names.lacking({names.of[name] for name, _ in logs if name in names.of})) == 0
        if total <= 1 + NEAR and (not complete or total >= 1 - NEAR or self._others):
            return
        if total < 1:
            halved = math.fsum(2**each for _, each in logs)
            if abs(halved - 1) <= NEAR:
                message = f"has log-probabilities in {cell.shown} whose probabilities sum to {total:.4g}, and as powers of 2 to {halved:.4g}"
                raise cell.fault(message, "these look like base 2: multiply by 0.693147")
            return
        tenth = math.fsum(10**each for _, each in logs)
        message = f"has log-probabilities in {cell.shown} whose probabilities sum to {total:.4g}, above 1"
        if tenth <= 1 + NEAR and (not complete or tenth >= 1 - NEAR):
            raise cell.fault(message, "these look like base 10: multiply by 2.302585")
        raise cell.fault(message, "write natural logarithms of probabilities; name logits in `logits`")

    def _completed(self, listed_: Mapping[int, float], classes: int) -> list[float]:
        rest = max(0.0, 1 - math.fsum(math.exp(each) for each in listed_.values()))
        others = classes - len(listed_)
        if self._tail == "drop" or not others or not rest:
            total = log_sum(list(listed_.values()))
            return [max(listed_[n] - total, log(0)) if n in listed_ else log(0) for n in range(classes)]
        return logits_of([math.exp(listed_[n]) if n in listed_ else rest / others for n in range(classes)])


def _pairs(value: Any) -> list[tuple[str, Any]] | None:
    """The names with their values; None if the value is no mapping, list of pairs, or list of objects."""
    if isinstance(value, Mapping):
        return list(without_null(value).items())
    if not isinstance(value, (list, tuple)):
        return None
    found: list[tuple[str, Any]] = []
    for item in value:
        if isinstance(item, Mapping):
            name, number = item.get("token", item.get("label")), item.get("logprob", item.get("score"))
        elif isinstance(item, (list, tuple)) and len(item) == _PAIR:
            name, number = item
        else:
            return None
        if name is None or isinstance(name, (list, Mapping)):
            return None
        found.append((name if isinstance(name, str) else str(written(name)), number))
    return found


def _logarithm(cell: AnswerCell, name: str, value: Any) -> float:
    if not_finite(value) == "-Inf":
        return log(0)
    found = finite(cell, value, "a log-probability", name)
    if found > 0:
        message = f"has {found:g} for {shown(name)} in {cell.shown}, and a log-probability is not above 0"
        help_ = (
            "it looks like a probability: write its natural logarithm"
            if found <= 1
            else "write natural logarithms of probabilities; name logits in `logits`"
        )
        raise cell.fault(message, help_)
    return found
