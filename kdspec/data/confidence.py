"""Metrics of a model's confidence in its answers, for the evaluators of anyone: their names, states and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from kdspec.api.working.evaluator import Metric, State

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.ops.calibration import Ranked

ConfidenceMetric = Literal["ece", "ece_adaptive", "brier", "nll", "coverage_at_95"]
"""The names, for a task's `metric`."""
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
    from kdspec.ops.calibration import row_scores

    confidence, brier, nll = row_scores(logits, labels)
    return {"confidence": confidence, "brier": brier, "nll": nll}


def of_labels(logits: Tensor, labels: Tensor, given: Tensor) -> State:
    """The state of rows with several labels: `confidence` of each decision, and `sums` of the known ones.

    Args:
        logits: (n, labels).
        labels: 0, 1, or NaN where it is not known, of the same shape.
        given: the decisions, bool.
    """
    import torch

    from kdspec.ops.calibration import decision_scores

    confidence, brier, nll = decision_scores(logits, labels, given)
    # In float32, and sums in place of the others: there may be many millions.
    return {"confidence": confidence.float(), "sums": torch.stack([brier.nansum(), nll.nansum()])}


def metrics(confidence: Tensor, right: Tensor, brier: float, nll: float) -> dict[str, float]:
    """The values of all of these metrics.

    Args:
        confidence: (n,), of each answer.
        right: bool of the same shape.
        brier: the mean score.
        nll: the mean negative log-likelihood.
    """
    from kdspec.ops.calibration import Ranked, coverage_at, ece, ece_adaptive

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
