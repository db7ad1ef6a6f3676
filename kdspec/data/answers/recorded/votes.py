"""Recorded answers of several annotators, as the distribution of their votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdspec.data.answers.recorded.answer_classes import ClassNames
from kdspec.data.answers.recorded.cells import AnswerCell, finite, without_null
from kdspec.data.answers.recorded.log_space import logit, logits_of
from kdspec.data.class_match import shown
from kdspec.data.label_names import written
from kdspec.data.numbers import described
from kdspec.diagnostics.fault import Fault


class Votes:
    """Reads votes as logits: the logarithm of the share of the annotators who chose a class.

    Args:
        independent: whether an annotator names any number of labels; the share is then that of each label.
    """

    def __init__(self, *, independent: bool) -> None:
        self._independent = independent

    def names(self, value: Any) -> Iterable[str]:
        """Their names of classes in an answer."""
        if isinstance(value, Mapping):
            return without_null(value)
        items = value if isinstance(value, (list, tuple)) else ()
        return [name for vote in items for name in _labels(vote) or ()]

    def read(self, cell: AnswerCell, value: Any, names: ClassNames) -> list[float] | None:
        """The logits of an answer; None if nobody has voted.

        Raises:
            Fault: KD502 for what are no votes, KD403 for a vote for what is no class.
        """
        counts = self._counts(cell, value) if isinstance(value, Mapping) else None
        ballots = [] if counts is not None else self._ballots(cell, value)
        votes = counts if counts is not None else Counter(name for ballot in ballots for name in ballot)
        for name in votes:
            if name not in names.of:
                raise names.unknown(name, cell, votes)
        if self._independent:
            chosen = Counter(place for ballot in ballots for place in {names.of[name] for name in ballot})
            return [logit(chosen[n] / len(ballots)) for n in range(len(names.ours))] if ballots else None
        found = [0.0] * len(names.ours)
        for name, count in votes.items():
            found[names.of[name]] += count
        return logits_of(found) if any(found) else None

    def report(self, rows: int) -> Iterator[Fault]:
        """Nothing."""
        del rows
        yield from ()

    def _counts(self, cell: AnswerCell, value: Mapping[str, Any]) -> dict[str, float]:
        if self._independent:
            message = f"has counts in {cell.shown}, and not how many have voted"
            raise cell.fault(
                message, 'write a list of the labels that each annotator chose: `[["plot"], ["plot", "music"]]`'
            )
        found = {name: finite(cell, count, "a number of votes", name) for name, count in without_null(value).items()}
        below = next((name for name, count in found.items() if count < 0), None)
        if below is not None:
            message = f"has {found[below]:g} votes for {shown(below)} in {cell.shown}"
            raise cell.fault(message, "write how many annotators chose each class")
        return found

    def _ballots(self, cell: AnswerCell, value: Any) -> list[list[str]]:
        """What each annotator who has voted has chosen."""
        if not isinstance(value, (list, tuple)):
            message = f"has {described(value)} in {cell.shown}, not a list of votes or a mapping of counts"
            raise cell.fault(message, 'write `["spam", "spam", "ham"]`, or `{"spam": 2, "ham": 1}`')
        found: list[list[str]] = []
        for vote in value:
            labels = _labels(vote)
            if labels is None or (len(labels) > 1 and not self._independent):
                message = f"has {described(vote)} in {cell.shown}, not the class of one vote"
                raise cell.fault(
                    message, "write the name of one class for each annotator, null for one who has not voted"
                )
            if labels or isinstance(vote, (list, tuple)):
                found.append(list(labels))
        return found


def _labels(vote: Any) -> Sequence[str] | None:
    """The labels of a vote, none for one that is missing; None for what is no vote."""
    if isinstance(vote, (list, tuple)):
        named = [written(each) for each in vote if not isinstance(each, (list, Mapping))]
        return [name for name in named if name is not None] if len(named) == len(vote) else None
    if isinstance(vote, Mapping):
        return None
    name = written(vote)
    return [] if name is None else [name]
