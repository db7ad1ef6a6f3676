"""Decoupled knowledge distillation as a component of kdspec."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from kdspec import BuildContext, Component, LogitLoss, hookimpl

if TYPE_CHECKING:
    from kdspec import Mean

KDSPEC_API = 1


class DKD(LogitLoss):
    """Decoupled knowledge distillation: `T² (alpha TCKD + beta NCKD)`.

    The KL divergence from the teacher is `TCKD + (1 - p) NCKD`: p is the teacher's probability of the label, TCKD the
    divergence between label and rest, and NCKD the one among the other classes. So the more confident the teacher, the
    lower the weight of its knowledge of the other classes. Here the two have weights of their own.
    Reduction: the mean over rows, or over the tokens that `logits_mask` selects. The loss of a row without a label is
    the plain divergence, `T² KL`, since it cannot be decoupled.
    T²: included; if each row has a temperature of its own, its own square. Not negative, and 0 if student and teacher
    agree.
    Paper: Zhao et al. 2022, "Decoupled Knowledge Distillation" (CVPR, https://arxiv.org/abs/2203.08679), equation 7.
    """

    name = "dkd"
    scope = "position"
    needs_labels = True

    alpha: float = Field(default=1.0, ge=0, le=1e9)
    """Weight of TCKD, label against rest; 0 or more."""
    beta: float = Field(default=8.0, ge=0, le=1e9)
    """Weight of NCKD, the classes other than the label among each other; 0 or more. With two classes NCKD is 0, since
    there is only one other."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        """Make the loss: `f(student, teacher, *, temperature, labels)`."""
        from kdspec_dkd.ops import dkd

        del context
        return partial(dkd, alpha=self.alpha, beta=self.beta)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The loss."""
    return [DKD]
