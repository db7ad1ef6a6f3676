"""Temperature and vector scaling: what makes the confidence of a trained classifier fit rows that it has not seen.

Guo et al. 2017, "On Calibration of Modern Neural Networks" (https://arxiv.org/abs/1706.04599). Both minimise the negative
log-likelihood, which is convex in what is fitted, in float64. Of classes it is that of the softmax; with `several` labels that
of a sigmoid each, over the known decisions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_WIDEST = 100.0
"""Temperatures and scales beyond this, or below one over it, are those of rows that determine none."""
_STEPS = 500
_FLAT = 1e-6


def likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood.

    Args:
        logits: (n, classes), or of the known decisions (n,).
        labels: the class of each row, int64, or 0 or 1 for each decision.
    """
    if logits.ndim == 1:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


def temperature(logits: Tensor, labels: Tensor) -> float | None:
    """The temperature T by which logits are divided, from 0.01 to 100; None if the rows determine none.

    That is so where each answer is right, so that the likelihood grows as long as T falls, and where the logits say nothing
    of the labels. The derivative by 1/T only rises: halving an interval of log T finds its zero.

    Args:
        logits: as for `likelihood`.
        labels: as for `likelihood`.
    """
    wide = logits.double()

    def rising(scale: float) -> float:
        if wide.ndim == 1:
            return float(((scale * wide).sigmoid() - labels.double()).mul(wide).mean())
        shares = (scale * wide).softmax(-1)
        return float((shares * wide).sum(-1).sub(wide.gather(-1, labels[:, None])[:, 0]).mean())

    low, high = -math.log(_WIDEST), math.log(_WIDEST)
    if not rising(math.exp(low)) < 0 < rising(math.exp(high)):
        return None
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def vector(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """The scale and the bias of each class, (classes,) each: a · logits + b. None if the rows determine none.

    A class that no row has would have a bias of minus infinity, so each is needed, and with several labels a row with each
    label and one without it.

    Args:
        logits: (n, classes).
        labels: the class of each row, int64; or 0 or 1 for each row and label.
        known: with several labels, bool of shape (n, classes): the decisions that are known.
    """
    wide = logits.detach().double()
    classes = wide.shape[-1]
    # From the temperature, which has the largest part of the gain.
    flat = temperature(wide, labels) if known is None else temperature(wide[known], labels[known])
    if flat is None or unseen(labels, classes, known):
        return None
    scale = torch.full((classes,), 1 / flat, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        fitted = scale * wide + bias
        return likelihood(fitted, labels) if known is None else likelihood(fitted[known], labels[known])

    optimizer = torch.optim.LBFGS(
        [scale, bias], max_iter=_STEPS, tolerance_grad=_FLAT / 10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]  # torch has not typed it
        return value

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch has not typed it
        closure()
    assert scale.grad is not None, "the closure has made it"
    assert bias.grad is not None, "the closure has made it"
    a, b = scale.detach(), bias.detach()
    steep = max(float(scale.grad.abs().max()), float(bias.grad.abs().max()))
    if not (a.isfinite().all() and b.isfinite().all()) or steep > _FLAT * 100 or float(a.abs().max()) > _WIDEST:
        return None
    if known is None:  # a constant for all classes changes no probability
        b = b - b.mean()
    return a, b


def unseen(labels: Tensor, classes: int, known: Tensor | None = None) -> list[int]:
    """The classes that no row has; with several labels those that no known decision has, or all of them have.

    Args:
        labels: as for `vector`.
        classes: their number.
        known: as for `vector`.
    """
    if known is None:
        missing = labels.bincount(minlength=classes) == 0
    else:
        given = ((labels == 1) & known).sum(0)
        missing = (given == 0) | (given == known.sum(0))
    return [int(number) for number in missing.nonzero()[:, 0]]
