"""Metrics of a model's confidence in its answers, for the evaluators of anyone: their names, states and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kdspec.api.working.evaluator import Metric, State

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.ops.calibration.trust import Ranked

ConfidenceMetric = Literal["ece", "ece_adaptive", "brier", "nll", "coverage_at_95"]
"""The names, for a task's `metric`."""
_TOGETHER = 2**16
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "ece": Metric("ece", higher_is_better=False),
        "ece_adaptive": Metric("ece_adaptive", higher_is_better=False),
        "brier": Metric("brier", higher_is_better=False),
        "nll": Metric("nll", higher_is_better=False),
        "coverage_at_95": Metric("coverage_at_95"),
    }
)
"""The metrics by name, for `Evaluator.others`."""


def metric(name: str) -> Metric:
    """A metric of a task by its name, with its direction."""
    return METRICS.get(name, Metric(name))


def is_of_confidence(name: str) -> bool:
    """Whether a metric, with the name of its task before it or without, is one of these."""
    return name.rpartition(".")[2] in METRICS


def shown(names: Iterable[str], *, asked: bool) -> list[str]:
    """The metrics that a table or a line has: without these, unless they are asked for."""
    return [name for name in names if asked or not is_of_confidence(name)]


def of_classes(logits: Tensor, labels: Tensor) -> State:
    """The state of rows with one class each: `confidence`, `brier` and `nll` of each row.

    Args:
        logits: (n, classes).
        labels: int64 of shape (n,); of a row without a label the last two are not used.
    """
    import torch

    from kdspec.ops.calibration.trust import row_scores

    # Before what is thrown away again: small tensors between large ones would keep the memory from being used again.
    found = torch.empty(3, len(logits), dtype=torch.float64, device=logits.device)
    for some in _pieces(logits):
        for kept, values in zip(found, row_scores(logits[some], labels[some]), strict=True):
            kept[some] = values
    return dict(zip(("confidence", "brier", "nll"), found.unbind(), strict=True))


def of_labels(logits: Tensor, labels: Tensor, given: Tensor) -> State:
    """The state of rows with several labels: `confidence` of each decision, and `sums` of the known ones.

    Args:
        logits: (n, labels).
        labels: 0, 1, or NaN where it is not known, of the same shape.
        given: the decisions, bool.
    """
    import torch

    from kdspec.ops.calibration.trust import decision_scores

    # In float32, and sums in place of the others: there may be many millions.
    sure = torch.empty_like(logits, dtype=torch.float32)
    sums = torch.zeros(2, dtype=torch.float64, device=logits.device)
    for some in _pieces(logits):
        confidence, brier, nll = decision_scores(logits[some], labels[some], given[some])
        sure[some] = confidence
        sums += torch.stack([brier.nansum(), nll.nansum()])
    return {"confidence": sure, "sums": sums}


def _pieces(logits: Tensor) -> Iterator[slice]:
    """Rows that are computed together: in float64 those of tens of thousands of classes take much memory."""
    step = max(1, _TOGETHER // max(logits.shape[-1], 1))
    return (slice(start, start + step) for start in range(0, max(len(logits), 1), step))


def metrics(confidence: Tensor, right: Tensor, brier: float, nll: float) -> dict[str, float]:
    """The values of all of these metrics.

    Args:
        confidence: (n,), of each answer.
        right: bool of the same shape.
        brier: the mean score.
        nll: the mean negative log-likelihood.
    """
    from kdspec.ops.calibration.trust import Ranked, coverage_at, ece, ece_adaptive

    ranked: Ranked = Ranked.of(confidence, right)
    return {
        "ece": ece(ranked),
        "ece_adaptive": ece_adaptive(ranked),
        "brier": brier,
        "nll": nll,
        "coverage_at_95": coverage_at(ranked),
    }


def joined(states: Sequence[State], name: str, kept: Tensor) -> Tensor:
    """The values of all states, of the rows that are kept."""
    import torch

    return torch.cat([state[name] for state in states])[kept]


class LabelledAnswers(NamedTuple):
    """The answers of a model that have a label, in any order."""

    keys: Tensor
    """A number of each answer, int64 of shape (n,): the same for the same answer of another model."""
    rows: Tensor
    """The row of each answer, whose answers are asked for together."""
    confidence: Tensor
    right: Tensor
    """Whether each is right, bool."""


LIMITS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""The confidences below which a teacher could be asked."""


def reliability(mine: LabelledAnswers, teachers: LabelledAnswers | None = None) -> dict[str, Any]:
    """What the report shows of confidences, as plain data of about 200 numbers; empty without answers.

    `bins` has for each of 15 bins of equal width how many answers there are, their mean confidence and their accuracy, or None;
    `coverage` points of the accuracy of the most confident answers: their share, the accuracy, the lowest confidence;
    `asked` for some confidences below which the teacher answers the row: the confidence, the share of rows, the accuracy of
    the other rows (None without any), and that of both together. It is empty where the teacher has no answer to one of these rows.

    Args:
        mine: of the model.
        teachers: of its teacher, for the same rows.
    """
    from kdspec.ops.calibration.trust import Ranked, asked, bins, coverage_curve

    if not len(mine.keys):
        return {}
    ranked: Ranked = Ranked.of(mine.confidence, mine.right)
    if not ranked.known:
        return {}
    found: dict[str, Any] = {
        "bins": [None if b is None else [b.count, _short(b.confidence), _short(b.accuracy)] for b in bins(ranked)],
        "coverage": [list(map(_short, point)) for point in coverage_curve(ranked)],
        "asked": [],
    }
    if teachers is None or len(teachers.keys) != len(mine.keys):
        return found
    order, others = mine.keys.argsort(), teachers.keys.argsort()
    if not mine.keys[order].equal(teachers.keys[others]):
        return found
    rows, sure, right = (values[order] for values in (mine.rows, mine.confidence, mine.right))
    for each in asked(rows, sure, right, teachers.right[others], LIMITS):
        rest = None if each.share == 1 else _short(each.rest)
        found["asked"].append([each.below, _short(each.share), rest, _short(each.together)])
    return found


def _short(number: float) -> float:
    return round(number, 6)
