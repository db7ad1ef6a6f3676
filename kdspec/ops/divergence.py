"""Losses between two distributions over classes: of student and teacher, or of student and hard labels.

Logits have shape (..., classes): (batch, classes) for one label a row, (tokens, classes) or (batch, length, classes)
for one a token. Each loss is a mean over the leading dimensions, which all count alike. A temperature is a number or a
tensor of the leading shape. Gradients go to the student only.

A teacher logit of -inf is a class that the teacher rules out: it has probability 0 and contributes 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from kdspec.ops.mean import Mean
from kdspec.ops.precision import widened

_IMPOSSIBLE = -1e4
"""A logarithm whose exponential is 0 in every type."""


def cross_entropy_soft(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Mean:
    """The cross-entropy of the tempered distributions, -Σ_c p_c log q_c, without a factor T² (TextBrewer's `ce`).

    p = softmax(teacher / T), q = softmax(student / T). Its minimum is the entropy of the teacher, not 0; its gradient
    is that of the KL divergence, and falls as 1/T² in the temperature.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """
    student, teacher = compared(student, teacher)
    column = over_classes(temperature, student)
    p = (teacher / column).softmax(-1)
    log_q = (student / column).log_softmax(-1)
    # 0 log 0 is 0
    return _mean(-p * torch.where(p > 0, log_q, 0.0), student)


def kl(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Mean:
    """T² KL(p ‖ q) = T² Σ_c p_c (log p_c - log q_c), with p = softmax(teacher / T) and q = softmax(student / T).

    T² keeps the size of the gradient about the same for all temperatures; a temperature for each row enters with its
    own square. Not negative, and 0 where student and teacher agree, up to rounding times T²: in float32 and at T = 100 the
    value near agreement may be -0.003.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """
    return Tempered(kl_of, squares=True)(student, teacher, temperature=temperature)


class Tempered:
    """A divergence of two distributions as a loss between logits: at a temperature, with or without T², as a mean.

    Args:
        value: `f(log_p, log_q)`, of each position its divergence; p is the teacher's distribution and q the student's,
            both at the temperature, and logarithms have shape `(..., outcomes)`.
        squares: whether the divergence is multiplied by T², the square of each position's own temperature.
        fills: whether an outcome that both rule out has a logarithm that is finite and whose exponential is 0, so that a
            divergence need not handle the difference of two infinite ones.
        whole: another way to the same mean over whole logits, where its last digits are those of a reference.
    """

    def __init__(
        self,
        value: Callable[[Tensor, Tensor], Tensor],
        *,
        squares: bool,
        fills: bool = False,
        whole: Callable[[Tensor, Tensor, Tensor | float], Mean] | None = None,
    ) -> None:
        self.value, self.squares, self._fills, self._whole = value, squares, fills, whole

    def __call__(self, student: Tensor, teacher: Tensor, *, temperature: Tensor | float) -> Mean:
        """The mean over positions; logits have shape `(..., classes)`."""
        if self._whole is not None:
            return self._whole(student, teacher, temperature)
        student, teacher = compared(student, teacher)
        column = over_classes(temperature, student)
        log_p, log_q = (teacher / column).log_softmax(-1), (student / column).log_softmax(-1)
        if self._fills:
            both = log_p.isneginf() & log_q.isneginf()
            log_p, log_q = (torch.where(both, _IMPOSSIBLE, each) for each in (log_p, log_q))
        return self.mean(log_p, log_q, temperature)

    def mean(self, log_p: Tensor, log_q: Tensor, temperature: Tensor | float) -> Mean:
        """The same of distributions that are at the temperature already."""
        each = self.value(log_p, log_q)
        if self.squares:
            each = each * (temperature.to(each.dtype) if isinstance(temperature, Tensor) else temperature) ** 2
        return Mean(each.sum(), float(each.numel()), "labels")


def cross_entropy_of(log_p: Tensor, log_q: Tensor) -> Tensor:
    """-Σ_c p_c log q_c of each position."""
    p = log_p.exp()
    return -(p * torch.where(p > 0, log_q, 0.0)).sum(-1)  # 0 log 0 is 0


def kl_of(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ_c p_c (log p_c - log q_c) of each position."""
    p = log_p.exp()
    return (p * torch.where(p > 0, log_p - log_q, 0.0)).sum(-1)


def mse_logits(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Mean:
    """The mean over classes of the squared differences of tempered logits, ((student - teacher) / T)².

    A class that both rule out, as padding among positions, does not count.

    Without a factor T² (TextBrewer's `mse`), so it falls as 1/T².

    Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", section 2.2.
    """
    student, teacher = compared(student, teacher)
    difference = torch.where(teacher.isneginf(), 0.0, student - teacher)
    classes = student.shape[-1]
    there = classes - (student.isneginf() & teacher.isneginf()).sum(-1, keepdim=True)
    # a factor of exactly 1 where every class is there
    return _mean((difference / over_classes(temperature, student)).square() / classes * (classes / there), student)


def bce_soft(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Mean:
    """The binary cross-entropy of each class, -(p log q + (1 - p) log(1 - q)), averaged over classes; without T².

    p = sigmoid(teacher / T), q = sigmoid(student / T): each class holds or does not, whatever the others do. The minimum is the
    teacher's entropy, and the gradient falls as 1/T².
    """
    student, teacher = compared(student, teacher)
    column = over_classes(temperature, student)
    losses = functional.binary_cross_entropy_with_logits(
        student / column, (teacher / column).sigmoid(), reduction="sum"
    )
    return Mean(losses / student.shape[-1], float(math.prod(student.shape[:-1])), "labels")


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Mean:
    """The binary cross-entropy of hard labels, 1 or 0 for each class; NaN is a label that is not known.

    The mean is over the labels that are known. `labels` has the shape of `logits`.
    """
    assert logits.shape == labels.shape, (
        f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} do not go together"
    )
    known = ~labels.isnan()
    rows, target = torch.where(known, widened(logits), 0.0), torch.where(known, widened(labels), 0.5)
    losses = functional.binary_cross_entropy_with_logits(rows, target.to(rows.dtype), reduction="none")
    return Mean(torch.where(known, losses, 0.0).sum(), known.sum(), "labelled")


def squared_error(outputs: Tensor, labels: Tensor) -> Mean:
    """(output - label)², averaged over the labels that are known; NaN is one that is not. The shapes are the same."""
    assert outputs.shape == labels.shape, (
        f"outputs of shape {tuple(outputs.shape)} and labels of shape {tuple(labels.shape)} do not go together"
    )
    known = ~labels.isnan()
    difference = torch.where(known, widened(outputs) - labels, 0.0)
    return Mean(difference.square().sum(), known.sum(), "labelled")


def cross_entropy(logits: Tensor, labels: Tensor, ignore: int = -100) -> Mean:
    """The cross-entropy of hard labels, -log softmax(logits)[label], over the positions that have one.

    `labels` has the leading shape of `logits`; a position whose label is `ignore` has none, and its logits do not
    matter. With no label at all the loss is 0, with a gradient of zeros.
    """
    assert logits.shape[:-1] == labels.shape, (
        f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} do not go together"
    )
    labelled = labels != ignore
    rows = torch.where(labelled[..., None], widened(logits), 0.0).flatten(end_dim=-2)
    total = functional.cross_entropy(rows, labels.flatten(), ignore_index=ignore, reduction="sum")
    return Mean(total, labelled.sum(), "labelled")


@torch.no_grad()
def divergence_of_classes(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ_c p_c (log p_c - log q_c) of each row, (n,), with p = softmax(teacher) and q = softmax(student).

    A class that the teacher rules out with a logit of -inf contributes 0.

    Args:
        student: (n, classes).
        teacher: of the same shape.
    """
    log_p, log_q = teacher.double().log_softmax(-1), student.double().log_softmax(-1)
    p = log_p.exp()
    # 0 log 0 is 0; a difference of two values -inf would be NaN
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


@torch.no_grad()
def divergence_of_labels(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of the two outcomes of each decision, of the shape of the logits, with p = sigmoid(teacher) and q = sigmoid(student).

    Args:
        student: a logit for each label, of any shape.
        teacher: of the same shape; ±inf for a probability of 1 or 0.
    """
    p_logit, q_logit = teacher.double(), student.double()

    def part(sign: float) -> Tensor:
        log_p, log_q = functional.logsigmoid(sign * p_logit), functional.logsigmoid(sign * q_logit)
        p = log_p.exp()
        return torch.where(p > 0, p * (log_p - log_q), 0.0)

    return part(1.0) + part(-1.0)


def compared(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both logits in at least float32, the teacher's without a gradient; they must have the same shape."""
    assert student.shape == teacher.shape, (
        f"student logits of shape {tuple(student.shape)}, teacher logits of shape {tuple(teacher.shape)}"
    )
    return widened(student), widened(teacher.detach())


def over_classes(temperature: Tensor | float, logits: Tensor) -> Tensor | float:
    """The temperature, so that it broadcasts over the classes."""
    if not isinstance(temperature, Tensor):
        return temperature
    temperature = temperature.to(logits.dtype)
    if temperature.ndim == 0:
        return temperature
    assert temperature.shape == logits.shape[:-1], (
        f"temperatures of shape {tuple(temperature.shape)} for logits of shape {tuple(logits.shape)}"
    )
    return temperature[..., None]


def _mean(parts: Tensor, logits: Tensor) -> Mean:
    return Mean(parts.sum(), float(math.prod(logits.shape[:-1])), "labels")
