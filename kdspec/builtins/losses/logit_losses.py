"""Losses between the logits of student and teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import Divergence, LogitKind, LogitLoss

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.ops.divergence import Tempered
    from kdspec.ops.mean import Mean


class CrossEntropy(Divergence):
    """Cross-entropy with the teacher's probabilities: `-Σ_c p_c log q_c`.

    p = softmax(teacher / T), q = softmax(student / T).
    Reduction: the mean over rows, or over the tokens that `logits_mask` keeps.
    T²: none, so the gradient falls as 1/T²; `kl` has the factor. The gradient is that of the KL divergence, but the
    minimum is the teacher's entropy, not 0: a loss that stops falling above 0 may have reached it.
    Paper: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (https://arxiv.org/abs/1503.02531),
    section 2. TextBrewer's `ce`. On scores of candidates it is ListNet's top-one loss: Cao et al. 2007, "Learning to Rank:
    From Pairwise Approach to Listwise Approach", section 4.
    """

    name = "ce"
    squares_temperature = False

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        from kdspec.ops.divergence import cross_entropy_of

        return cross_entropy_of(log_p, log_q)

    def build(self, context: BuildContext) -> Tempered:
        """With TextBrewer's order of the sum, so that last digits are the same."""
        from kdspec.ops.divergence import Tempered, cross_entropy_soft

        del context
        return Tempered(self.value, squares=False, whole=cross_entropy_soft)


class MeanSquaredError(LogitLoss):
    """Squared difference of the tempered logits: `((student - teacher) / T)²`.

    Reduction: the mean over classes, and over rows or the tokens that `logits_mask` keeps; of scores over the candidates of
    a row.
    T²: none, so the temperature softens nothing and divides the loss by T²; it should usually be 1. Leaving it at its
    default of 4, a sixteenth, is a warning.
    Paper: Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?" (https://arxiv.org/abs/1312.6184), section 2.2.
    TextBrewer's `mse`; also for regression.
    """

    name = "mse"
    scope = "position"
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"classes", "labels", "numbers", "scores"})
    scaled_by_temperature = True

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.divergence import mse_logits

        del context
        return mse_logits


class KullbackLeibler(Divergence):
    """KL divergence of the student from the teacher: `T² Σ_c p_c (log p_c - log q_c)`.

    p = softmax(teacher / T), q = softmax(student / T).
    Reduction: the mean over rows, or over the tokens that `logits_mask` keeps.
    T²: included, so the gradient has about the same size at every temperature; with a temperature for each row, each row
    is scaled by its own T². Not negative but for rounding, and 0 if student and teacher agree. T² enlarges the rounding: in
    float32 at T = 100 a student near its teacher may have -0.003.
    Paper: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (https://arxiv.org/abs/1503.02531),
    section 2.
    """

    name = "kl"

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        from kdspec.ops.divergence import kl_of

        return kl_of(log_p, log_q)

    def build(self, context: BuildContext) -> Tempered:
        """As it is, since the value handles outcomes that both rule out."""
        from kdspec.ops.divergence import Tempered

        del context
        return Tempered(self.value, squares=True)


class BinaryCrossEntropy(LogitLoss):
    """Binary cross-entropy of each class: `-(p_c log q_c + (1 - p_c) log(1 - q_c))`, for several labels per row.

    p = sigmoid(teacher / T), q = sigmoid(student / T): the classes do not compete, unlike those of a softmax.
    Reduction: the mean over classes, and over rows or the tokens that `logits_mask` keeps.
    T²: none, as with `ce`, so the gradient falls as 1/T². The minimum is the teacher's entropy, not 0.
    Paper: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (https://arxiv.org/abs/1503.02531),
    section 2, for distributions over two classes.
    """

    name = "bce"
    scope = "position"
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"labels"})

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.divergence import bce_soft

        del context
        return bce_soft


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The logit losses."""
    return [CrossEntropy, MeanSquaredError, KullbackLeibler, BinaryCrossEntropy]
