"""Losses between embeddings of student and teacher: one vector a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import FeatureLoss
from kdspec.api.spec.bounds import LARGEST_BATCH, LARGEST_TEMPERATURE, LEAST_TEMPERATURE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.ops.mean import Mean


_Value = TypeVar("_Value", bound="Tensor | Mean")


def unmasked(function: Callable[[Tensor, Tensor], _Value]) -> Callable[..., _Value]:
    """The function as a loss: embeddings have no padding, so that the mask is ignored."""

    def loss(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> _Value:
        del mask
        return function(student, teacher)

    return loss


class EmbeddingMse(FeatureLoss):
    """Squared distance of embeddings: `‖student - teacher‖²`, directions and norms.

    Reduction: over `rows` the mean over rows, over `elements` the mean over rows and width. The two differ by the width:
    over rows it is 2 - 2 cos if both are normalised, over elements 2 / width of `cos`, 384 times smaller for vectors 384 wide.
    If the widths differ, the student is projected first. It is 0 if student and teacher agree.
    Paper: Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation"
    (https://arxiv.org/abs/2004.09813), section 2. The `MSELoss` of sentence-transformers is that over elements.
    """

    name = "embedding_mse"
    scope = "row"
    feature = "embedding"
    compares_positions = False

    over: Literal["rows", "elements"] = "rows"
    """What the mean is over: `rows`, or `elements`, the width too."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.embeddings.losses import embedding_mse

        del context

        return unmasked(partial(embedding_mse, over=self.over))


class EmbeddingL2(FeatureLoss):
    """Distance of embeddings: `‖student - teacher‖`, not squared, so that far rows weigh less than in `embedding_mse`.

    Reduction: the mean over rows. If the widths differ, the student is projected first. It is 0 if student and teacher agree.
    Paper: Kim et al. 2023, "EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval"
    (https://arxiv.org/abs/2301.12005), equations 7 and 8.
    """

    name = "embedding_l2"
    scope = "row"
    feature = "embedding"
    compares_positions = False

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.embeddings.losses import embedding_l2

        del context
        return unmasked(embedding_l2)


class SimilarityMse(FeatureLoss):
    """Squared difference of the similarities of rows: `(S_student - S_teacher)²`, S_ij the cosine of rows i and j.

    Reduction: the mean over all pairs of rows of an optimizer step, i = j included. The widths may differ, so no projection
    is needed. A step of one row has no similarities: the loss is 0.
    Not negative, and 0 if student and teacher agree.
    Papers: Zhang et al. 2024, "Jasper and Stella: distillation of SOTA embedding models"
    (https://arxiv.org/abs/2412.19048), its similarity loss; Tung and Mori 2019, "Similarity-Preserving Knowledge
    Distillation" (https://arxiv.org/abs/1907.09682), which normalises the rows of S.
    """

    name = "similarity_mse"
    scope = "step"
    feature = "embedding"
    same_width = False
    compares_positions = False

    def build(self, context: BuildContext) -> Callable[..., Tensor]:
        from kdspec.ops.embeddings.losses import similarity_mse

        del context

        return unmasked(similarity_mse)


class SimilarityKl(FeatureLoss):
    """Each row's similarities to the others: `KL(P_teacher ‖ P_student) · max(1, T²)`, P_i = softmax_j(cos(i, j) / T).

    The factor is T² at temperatures above 1, so that the gradient does not fade, and 1 below, where it does not.
    Reduction: the sum over the other rows of an optimizer step, and the mean over its rows. The widths may differ, so no
    projection is needed. A step of one row has no similarities: the loss is 0.
    Not negative, and 0 if student and teacher agree.
    Paper: Fang et al. 2021, "SEED: Self-supervised Distillation For Visual Representation"
    (https://arxiv.org/abs/2101.04731), equation 4, with the rows of the step in place of a queue.
    """

    name = "similarity_kl"
    scope = "step"
    feature = "embedding"
    same_width = False
    compares_positions = False

    temperature: float = Field(default=0.05, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """T, of both sides. Cosines lie between -1 and 1: at 0.05 the nearest rows count, at 1 and above all rows alike."""
    diagonal: bool = False
    """Whether each row is one of its own neighbours. Its cosine, 1 in both models, then takes most of the probability."""

    def build(self, context: BuildContext) -> Callable[..., Tensor]:
        from kdspec.ops.embeddings.losses import similarity_kl

        del context

        return unmasked(partial(similarity_kl, temperature=self.temperature, diagonal=self.diagonal))


class Contrastive(FeatureLoss):
    """The teacher's vector of the same row against those of others: `-log softmax_j(cos(student_i, teacher_j) / T)` at j = i.

    The others are the rows of the optimizer step, and with `queue` the rows of earlier steps too. Rows with the same teacher
    vector, such as translations of one text, are among them: they add a constant, and no gradient.
    Reduction: the mean over rows. If the widths differ, the student is projected first. A step of one row without a queue
    has a loss of 0.
    Not negative. Its minimum, with the student's vectors equal to the teacher's in direction, is above 0.
    Papers: Gao et al. 2021, "DistilCSE: Effective Knowledge Distillation For Contrastive Sentence Embeddings"
    (https://arxiv.org/abs/2112.05638), section 3.2; He et al. 2020, "Momentum Contrast" (https://arxiv.org/abs/1911.05722),
    for the queue.
    """

    name = "contrastive"
    scope = "step"
    feature = "embedding"
    compares_positions = False

    temperature: float = Field(default=0.05, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """T."""
    queue: int = Field(default=0, ge=0, le=LARGEST_BATCH)
    """Number of teacher vectors of earlier steps that are negatives too; 0 for none. The vectors of a step are dropped
    together, so it is at least the number of rows of a step. They are saved in checkpoints."""

    def build(self, context: BuildContext) -> Callable[..., Tensor] | nn.Module:
        from kdspec.ops.embeddings.losses import contrastive
        from kdspec.ops.embeddings.teacher_queue import QueuedContrastive

        del context
        if self.queue:
            return QueuedContrastive(self.temperature, self.queue)
        return unmasked(partial(contrastive, temperature=self.temperature))


class TripletOrder(FeatureLoss):
    """The order of similarities: `max(0, s_b - s_a + margin)` over pairs of rows a and b where t_a > t_b.

    s and t are the cosines of a pair of rows, the student's and the teacher's. Only the order of the teacher's counts, in
    steps of 2⁻¹⁶, so it asks less of a small student than `similarity_mse`.
    Reduction: the mean over all two pairs of different rows of an optimizer step that the teacher orders; 0 if there are
    none, as in steps of up to two rows. All of them are compared, for any number of rows, in memory that grows with rows²
    only: 64 rows take about 30 ms on one CPU core, 256 rows 0.3 s. The widths may differ, so no projection is needed.
    Not negative.
    Paper: Zhang et al. 2024, "Jasper and Stella: distillation of SOTA embedding models"
    (https://arxiv.org/abs/2412.19048), its relative similarity loss.
    """

    name = "triplet_order"
    scope = "step"
    feature = "embedding"
    same_width = False
    compares_positions = False

    margin: float = Field(default=0.015, ge=0, le=2)
    """By how much the student's similarities are to differ."""

    def build(self, context: BuildContext) -> Callable[..., Tensor]:
        from kdspec.ops.embeddings.similarity_order import triplet_order

        del context
        return unmasked(partial(triplet_order, margin=self.margin))


class Cosent(FeatureLoss):
    """The order of similarities: `log(1 + Σ exp(scale · (s_b - s_a)))` over pairs of rows a and b where t_a > t_b.

    s and t are the cosines of a pair of rows, the student's and the teacher's, in place of the labels of CoSENT. Those of the
    teacher are compared in steps of 2⁻¹⁶.
    Reduction: one sum over all two pairs of different rows of an optimizer step that the teacher orders, so it grows with the
    logarithm of their number; 0 if there are none, as in steps of up to two rows. Memory grows with rows² only. The widths
    may differ, so no projection is needed.
    Not negative.
    Paper: Huang et al. 2024, "CoSENT: Consistent Sentence Embedding via Similarity Ranking"
    (https://doi.org/10.1109/TASLP.2024.3402087). The `CoSENTLoss` of sentence-transformers, with pairs of rows.
    """

    name = "cosent"
    scope = "step"
    feature = "embedding"
    same_width = False
    compares_positions = False

    scale: float = Field(default=20.0, gt=0, le=1 / LEAST_TEMPERATURE)
    """Factor of the similarities, the inverse of a temperature."""

    def build(self, context: BuildContext) -> Callable[..., Tensor]:
        from kdspec.ops.embeddings.similarity_order import cosent

        del context
        return unmasked(partial(cosent, scale=self.scale))


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The losses between embeddings."""
    return [EmbeddingMse, EmbeddingL2, SimilarityMse, SimilarityKl, Contrastive, TripletOrder, Cosent]
