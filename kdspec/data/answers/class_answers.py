"""Logits of classes, of independent labels and of numbers as the columns of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.working.row_answers import RowAnswers
from kdspec.data.answers.exact_numbers import exact

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features


class ClassAnswers(RowAnswers):
    """The class of each row, its probability, and the logits of all classes.

    Args:
        names: the classes in the order of the logits.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[dict[str, Any]]:
        """One row after another."""
        for features, _ in batches:
            yield from classes(logits_of(features), self.names, probabilities=probabilities)


class LabelAnswers(RowAnswers):
    """The labels of each row that are more probable than the threshold, and the logits of all labels.

    `confidence` is the largest probability of a label.

    Args:
        names: the labels in the order of the logits.
        limit: the logit above which a label is predicted.
    """

    def __init__(self, names: Sequence[str], limit: float) -> None:
        self.names, self.limit = names, limit

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[dict[str, Any]]:
        """One row after another."""
        for features, _ in batches:
            logits = logits_of(features)
            shares = logits.double().sigmoid()
            key, shown = ("probabilities", shares) if probabilities else ("logits", logits)
            parts = (logits > self.limit).tolist(), exact(shares.amax(-1)), exact(shown)
            for given, confidence, numbers in zip(*parts, strict=True):
                answer = [name for name, is_given in zip(self.names, given, strict=True) if is_given]
                yield {"answer": answer, "confidence": confidence, key: _by_name(self.names, numbers)}


class NumberAnswers(RowAnswers):
    """The numbers of each row: one, or one by the name of each column. The logits are the numbers.

    Args:
        names: the columns in the order of the logits.
    """

    columns = ("answer", "logits")
    probable = False

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[dict[str, Any]]:
        """One row after another."""
        del probabilities
        for features, _ in batches:
            for numbers in exact(logits_of(features)):
                value = numbers[0] if len(self.names) == 1 else _by_name(self.names, numbers)
                yield {"answer": value, "logits": value}


def logits_of(features: Features) -> Tensor:
    """The logits of the first head in float32, where metrics read them too."""
    from kdspec.objectives.soft_labels import outputs

    return outputs(features)[0].dense().float()


def classes(logits: Tensor, names: Sequence[str], *, probabilities: bool) -> Iterator[dict[str, Any]]:
    """The columns of each row of logits, `(rows, classes)`."""
    shares = logits.double().softmax(-1)
    key, shown = ("probabilities", shares) if probabilities else ("logits", logits)
    parts = logits.argmax(-1).tolist(), exact(shares.amax(-1)), exact(shown)
    for chosen, confidence, numbers in zip(*parts, strict=True):
        yield {"answer": names[chosen], "confidence": confidence, key: _by_name(names, numbers)}


def _by_name(names: Sequence[str], numbers: Sequence[float]) -> Mapping[str, float]:
    return dict(zip(names, numbers, strict=True))
