"""Losses between the self-attention relations of student and teacher: of queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import FeatureLoss
from kdspec.api.spec.bounds import LARGEST_WIDTH
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.ops.mean import Mean

_MANY = 96


class MiniLM(FeatureLoss):
    """Similarity of the values of a layer's tokens: `KL(R_teacher ‖ R_student)`, R = softmax(V Vᵀ / √d) in each head.

    The feature is the values of one layer, such as `modules["bert.encoder.layer.11.attention.self.value"].output`, usually
    of the last layer of both models. The widths may differ, so no projection is needed. The paper also transfers the
    attention of that layer, with equal numbers of heads: add a match of `attention_ce`.
    Reduction: the mean over heads and queries. Mask: tokens that `inputs_mask` masks are excluded as queries and as keys.
    Not negative, and 0 if student and teacher agree.
    Paper: Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
    Transformers" (https://arxiv.org/abs/2002.10957), section 3.2.
    """

    name = "minilm"
    scope = "row"
    same_width = False

    heads: int = Field(default=12, gt=0, le=LARGEST_WIDTH)
    """Heads into which the values are split: the models' attention heads. Divides both widths."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.relations import relation

        del context

        def loss(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Mean:
            _check_widths((student, teacher), self.heads, self.name)
            return relation((student, student), (teacher, teacher), mask, heads=self.heads)

        return loss


class MiniLMv2(FeatureLoss):
    """Relations between queries, keys and values: `KL(R_teacher ‖ R_student)`, R = softmax(X Yᵀ / √d) per head.

    The feature is a list of vectors of one layer, such as its query, key and value modules' outputs. `layers:
    {0: 0, 1: 1, 2: 2}` relates each to itself, as in the paper; `pairs: [{teacher: [0, 1], student: [0, 1]}]` relates
    queries to keys. The number of relation heads is independent of the models' heads, so widths and attention heads may
    differ, and no projection is needed.
    Reduction: the mean over heads and queries. Mask: tokens that `inputs_mask` masks are excluded as queries and as keys.
    Not negative, and 0 if student and teacher agree.
    Paper: Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
    Transformers" (https://arxiv.org/abs/2012.15828), section 3.
    """

    name = "minilm_v2"
    scope = "row"
    arity = 2
    same_width = False

    heads: int = Field(default=48, gt=0, le=LARGEST_WIDTH)
    """Relation heads: the paper uses 48 for teachers of width 768 and 64 for width 1024. Divides both widths."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.relations import relation

        del context

        def loss(student: Any, teacher: Any, *, mask: Tensor | None = None) -> Mean:
            _check_widths((*student, *teacher), self.heads, self.name)
            return relation(student, teacher, mask, heads=self.heads)

        return loss


def _check_widths(vectors: tuple[Tensor, ...], heads: int, name: str) -> None:
    widths = sorted({int(tensor.shape[-1]) for tensor in vectors})
    uneven = [width for width in widths if width % heads]
    if uneven:
        fitting = [str(n) for n in range(1, _MANY + 1) if not any(width % n for width in widths)]
        message = f"vectors {uneven[0]} wide cannot be split into {heads} heads"
        raise Fault("KD302", message, ("loss", name, "heads"), help=f"these fit: {', '.join(fitting)}")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The relation losses."""
    return [MiniLM, MiniLMv2]
