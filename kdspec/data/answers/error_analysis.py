"""Where the answers of a model are wrong, or other than its teacher's: plain data for the report, for the evaluators of anyone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MATRIX = 20
"""The most classes of a confusion matrix; with more of them the most confused pairs are listed."""
PAIRS = 20
"""Confused pairs that are listed."""
LISTED = 50
"""Classes with scores; of more of them those of lowest F1."""
DIFFERING = 12
"""Rows on which a model and its teacher differ most."""
PARTS = 5
"""Differing answers of one row."""
POINTS = 400
"""Points of a scatter."""
UNLABELLED = -100
"""The class of an answer without a label."""


class ComparedAnswers(NamedTuple):
    """The answers of a model in any order: a class each, or a decision on a label, or a number."""

    rows: Tensor
    """The row of each answer, int64 of shape (n,)."""
    parts: Tensor
    """The place of the answer in its row, such as a word or a label; int64 of shape (n,)."""
    answers: Tensor
    """The class, 0 or 1 for a decision, or the number; shape (n,)."""
    truth: Tensor
    """The label in the same form; `UNLABELLED`, or NaN, without one."""
    confidence: Tensor | None = None
    """The probability of each answer; None for numbers."""


class Decisions(NamedTuple):
    """The decisions of a model on each label of each row."""

    rows: Tensor
    """The rows, int64 of shape (n,)."""
    given: Tensor
    """Whether it predicts each label, bool of shape (n, labels)."""
    truth: Tensor
    """0, 1 or `UNLABELLED`, of the same shape."""
    confidence: Tensor
    """The probability of each decision."""


class Counts(NamedTuple):
    """How often a class was predicted rightly, was predicted, and was the label."""

    right: int
    predicted: int
    labelled: int


def class_counts(predicted: Tensor, truth: Tensor, names: Sequence[str]) -> dict[str, Counts]:
    """The counts by the name of each class.

    Args:
        predicted: the classes, int64 of shape (n,).
        truth: those of the labels.
        names: the classes in the order of the logits.
    """
    hits = truth[predicted == truth]
    columns = [values.bincount(minlength=len(names)).tolist() for values in (hits, predicted, truth)]
    return {name: Counts(*found) for name, *found in zip(names, *columns, strict=False)}


def class_scores(mine: Mapping[str, Counts], teachers: Mapping[str, Counts] | None = None) -> dict[str, Any]:
    """Precision, recall and F1 of each class, as plain data.

    `classes` has for each class its name, precision, recall, F1, the number of labels and the F1 of the teacher; a score is
    None where it is not defined. Of more than `LISTED` classes those of lowest F1 are kept, without those that neither the
    labels nor the model have; `unlisted` is the number of the others.

    Args:
        mine: the counts of the model.
        teachers: those of its teacher.
    """
    kept = list(mine)
    if len(mine) > LISTED:
        there = {name: found for name, counts in mine.items() if (found := _f1(counts)) is not None}
        kept = sorted(there, key=there.__getitem__)[:LISTED]
    rows = [
        [name, *_scores(mine[name]), mine[name].labelled, None if teachers is None else _f1(teachers.get(name))]
        for name in kept
    ]
    return {"classes": rows, "unlisted": len(mine) - len(rows)}


def confusions(predicted: Tensor, truth: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """What is predicted in place of what, as plain data.

    `matrix` has a row for each class of the labels, with the number of times that each class was predicted, and `names` the
    classes; both are empty for more than `MATRIX` classes. `confused` then has the most frequent pairs of different classes:
    the label, the predicted class, and how often. Arguments are those of `class_counts`.
    """
    import torch

    pairs, times = torch.unique(truth * len(names) + predicted, return_counts=True)
    counted = {divmod(pair, len(names)): count for pair, count in zip(pairs.tolist(), times.tolist(), strict=True)}
    if len(names) <= MATRIX:
        size = range(len(names))
        return {
            "names": list(names), "matrix": [[counted.get((due, given), 0) for given in size] for due in size],
            "confused": [],
        }  # fmt: skip
    wrong = Counter({pair: count for pair, count in counted.items() if pair[0] != pair[1]})
    return {
        "names": [], "matrix": [],
        "confused": [[names[due], names[given], count] for (due, given), count in wrong.most_common(PAIRS)],
    }  # fmt: skip


def scatter(predicted: Tensor, truth: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """`points`: for each column of numbers its name, and pairs of a label and the prediction for it.

    Of more than `POINTS` rows they are every second, third, ... in the order of the labels.

    Args:
        predicted: the numbers, of shape (n, columns).
        truth: the labels, NaN where there is none.
        names: the columns.
    """
    found = []
    for name, mine, due in zip(names, predicted.T, truth.T, strict=False):
        known = ~due.isnan() & mine.isfinite()
        pairs = sorted(zip(due[known].tolist(), mine[known].tolist(), strict=True))
        found.append([name, [[_short(x), _short(y)] for x, y in pairs[:: -(-len(pairs) // POINTS) or 1]]])
    return {"points": found}


def of_classes(
    mine: ComparedAnswers, teachers: ComparedAnswers | None, names: Sequence[str], **options: Any
) -> dict[str, Any]:
    """All of this for answers of one class each: `class_scores` and `confusions` of those with a label, and `differing`.

    Args:
        mine: of the model.
        teachers: of its teacher; None without one.
        names: the classes in the order of the logits.
        **options: of `differing`.
    """
    found: dict[str, Any] = {}
    known = mine.truth != UNLABELLED
    if known.any():
        predicted, truth = mine.answers[known], mine.truth[known]
        counts = class_counts(predicted, truth, names)
        others = None
        if teachers is not None and (there := teachers.truth != UNLABELLED).any():
            others = class_counts(teachers.answers[there], teachers.truth[there], names)
        found = {**class_scores(counts, others), **confusions(predicted, truth, names)}
    return found if teachers is None else {**found, **differing(mine, teachers, names, **options)}


def differing(
    mine: ComparedAnswers, teachers: ComparedAnswers, names: Sequence[str], parts: Sequence[str] | None = None
) -> dict[str, Any]:
    """The rows on which a model and its teacher differ most, as plain data.

    Of different classes or decisions those come first of which both are surest: the sum of the two confidences, less one, is a
    lower bound of the total variation distance of the distributions. Of numbers those with the largest distance, in standard
    deviations of the teacher's.

    `compared` is the number of rows that both have answered, `differ` the number of those with a different class or decision
    (None for numbers), and `differing` has the first of them: the `row`, and `answers`: the part, the label, the model's answer
    and its confidence, the teacher's answer and its confidence. The part is its number if it has no name.

    Args:
        mine: of the model.
        teachers: of its teacher.
        names: the classes; empty for numbers.
        parts: the names of the parts.
    """
    places, others = _common(mine, teachers)
    if not len(places):
        return {}
    if mine.confidence is None or teachers.confidence is None:
        sure: list[Tensor | None] = [None, None]
        apart = _distance(mine, teachers, places, others)
        kept = apart > 0
    else:
        kept = mine.answers[places] != teachers.answers[others]
        sure = [mine.confidence, teachers.confidence]
        apart = mine.confidence[places].double() + teachers.confidence[others].double()
    rows = mine.rows[places]
    compared, differ = (len(set(some.tolist())) for some in (rows, rows[kept]))
    places, others, rows, apart = (values[kept] for values in (places, others, rows, apart))
    # Stable: of equal ones the first row and part come first, whatever the batches were.
    order = apart.round(decimals=6).sort(descending=True, stable=True).indices
    rows, places, others = rows[order], places[order], others[order]
    chosen: dict[int, list[int]] = {}
    for number, row in enumerate(rows.tolist()):
        if row in chosen or len(chosen) < DIFFERING:
            chosen.setdefault(row, []).append(number)

    def answer(number: int) -> list[Any]:
        at, other = int(places[number]), int(others[number])
        part, due = int(mine.parts[at]), mine.truth[at].item()
        found: list[Any] = [part if parts is None else parts[part], _written(due, names)]
        for each, place, confidence in ((mine, at, sure[0]), (teachers, other, sure[1])):
            found += [
                _written(each.answers[place].item(), names),
                None if confidence is None else _short(confidence[place].item()),
            ]
        return found

    return {
        "compared": compared,
        "differ": None if sure[0] is None else differ,
        "differing": [{"row": row, "answers": [answer(n) for n in found[:PARTS]]} for row, found in chosen.items()],
    }


def differing_decisions(mine: Decisions, teachers: Decisions, names: Sequence[str]) -> dict[str, Any]:
    """What `differing` gives, for labels of which any number may be.

    Args:
        mine: of the model.
        teachers: of its teacher.
        names: the labels.
    """
    import numpy as np
    import torch

    _, *found = np.intersect1d(mine.rows.numpy(), teachers.rows.numpy(), return_indices=True)
    if not len(found[0]):
        return {}
    places, others = map(torch.from_numpy, found)
    # Few of what may be many millions of decisions differ.
    row, part = (mine.given[places] != teachers.given[others]).nonzero().T
    one, other = (
        ComparedAnswers(
            each.rows[at], part, each.given[at, part].long(), each.truth[at, part], each.confidence[at, part]
        )
        for each, at in ((mine, places[row]), (teachers, others[row]))
    )
    chosen = differing(one, other, ("no", "yes"), names) or {"differ": 0, "differing": []}
    return {**chosen, "compared": len(places)}


def _common(mine: ComparedAnswers, teachers: ComparedAnswers) -> tuple[Tensor, Tensor]:
    """The places of the same answer of both, in the order of rows and parts."""
    import numpy as np
    import torch

    longest = max((int(each.parts.max()) + 1 for each in (mine, teachers) if len(each.parts)), default=1)
    one, other = ((each.rows * longest + each.parts).numpy() for each in (mine, teachers))
    _, places, others = np.intersect1d(one, other, return_indices=True)
    return torch.from_numpy(places), torch.from_numpy(others)


def _distance(mine: ComparedAnswers, teachers: ComparedAnswers, places: Tensor, others: Tensor) -> Tensor:
    """Between two numbers, in standard deviations of the teacher's numbers of that part; 0 where one is not finite."""
    apart = (mine.answers[places].double() - teachers.answers[others].double()).abs()
    for part in set(mine.parts[places].tolist()):
        of_part = mine.parts[places] == part
        spread = teachers.answers[others][of_part].double().std(unbiased=False)
        if spread > 0:
            apart[of_part] /= spread
    return apart.nan_to_num(0.0, 0.0, 0.0)


def _written(value: float, names: Sequence[str]) -> str | None:
    """A class by its name, a number in short; None if it is not known."""
    if value != value or (names and value == UNLABELLED):  # noqa: PLR0124 - NaN differs from itself
        return None
    return names[int(value)] if names else f"{value:.4g}"


def _scores(counts: Counts) -> list[float | None]:
    parts: Iterable[tuple[int, int]] = ((counts.right, counts.predicted), (counts.right, counts.labelled))
    return [*(_short(right / of) if of else None for right, of in parts), _f1(counts)]


def _f1(counts: Counts | None) -> float | None:
    if counts is None or not counts.predicted + counts.labelled:
        return None
    return _short(2 * counts.right / (counts.predicted + counts.labelled))


def _short(number: float) -> float:
    return round(number, 6)
