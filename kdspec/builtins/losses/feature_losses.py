"""Losses between inner features of student and teacher: hidden states and attention maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import FeatureLoss, Reduction, Scope

if TYPE_CHECKING:
    from kdspec.ops.mean import Mean


class HiddenMse(FeatureLoss):
    """Squared difference of hidden states: `(student - teacher)²`.

    Reduction: the mean over width and tokens. Mask: tokens that `inputs_mask` masks are excluded.
    If the widths differ, the student is projected first.
    Papers: Romero et al. 2015, "FitNets" (https://arxiv.org/abs/1412.6550), equation 3; Jiao et al. 2020, "TinyBERT"
    (https://arxiv.org/abs/1909.10351), equation 8. TextBrewer's `hidden_mse`.
    """

    name = "hidden_mse"
    scope = "position"
    feature = "hidden"

    def packs(self) -> bool:
        return True

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.features import hidden_mse

        del context
        return hidden_mse


class CosineLoss(FeatureLoss):
    """Angle between hidden states or embeddings: `1 - cos(student, teacher)`; their norms are ignored.

    Reduction: the mean over tokens; of `embedding`, one vector a row, the mean over rows. Mask: tokens that `inputs_mask`
    masks are excluded. If the widths differ, the student is projected first.
    Papers: Sanh et al. 2019, "DistilBERT" (https://arxiv.org/abs/1910.01108), section 2, for hidden states; Kim et al. 2023,
    "EmbedDistill" (https://arxiv.org/abs/2301.12005), section 4.1, for embeddings. TextBrewer's `cos`.
    """

    name = "cos"
    scope = "position"
    feature = "hidden"
    vectors = True

    def packs(self) -> bool:
        return True

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.features import cosine

        del context
        return cosine


class Pkd(FeatureLoss):
    """Patient knowledge distillation, on the first token: `‖s/‖s‖ - t/‖t‖‖²`, s and t its hidden states.

    Reduction: the sum over the width, which is 2 - 2 cos, or the mean; and the mean over rows. Mask: the first token that
    `inputs_mask` keeps is used, also with padding on the left. If the widths differ, the student is projected first.
    Paper: Sun et al. 2019, "Patient Knowledge Distillation for BERT Model Compression"
    (https://arxiv.org/abs/1908.09355), equation 7. TextBrewer's `pkd`.
    """

    name = "pkd"
    scope = "row"
    compares_positions = False
    feature = "hidden"

    reduction: Literal["sum", "mean"] = "sum"
    """Over the width: `sum` is equation 7 and TextBrewer's. `mean` is that of the authors' code, which also takes the mean
    over the layers: its beta is the sum of the weights of the matches, in equal parts."""

    def reduces(self) -> Reduction | None:
        return "first"

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.features import pkd

        del context
        return partial(pkd, reduction=self.reduction)


class Fsp(FeatureLoss):
    """Flow of the solution procedure between two layers X and Y: `(G_student - G_teacher)²`, G = Xᵀ Y / tokens.

    Reduction: the mean over the elements of G, width by width, and over rows. Mask: tokens that `inputs_mask` masks are
    excluded from product and count. If the widths differ, both student layers are projected first.
    Paper: Yim et al. 2017, "A Gift from Knowledge Distillation" (CVPR 2017), equations 1 and 2. TextBrewer's `fsp`.
    """

    name = "fsp"
    scope = "row"
    feature = "hidden"
    arity = 2

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.features import fsp

        del context
        return fsp


class Gram(Fsp):
    """Another name of the loss `fsp`; with X = Y it compares Gram matrices of the width.

    `(G_student - G_teacher)²`, G = Xᵀ Y / tokens. Reduction, mask and paper are those of `fsp`. TextBrewer's `gram`.
    """

    name = "gram"


class Mmd(FeatureLoss):
    """Similarities between tokens, from two layers X and Y: `(G_student - G_teacher)²`, G = X Yᵀ / width.

    Reduction: the mean over pairs of tokens. Mask: pairs with a padding token are left out. The widths may differ, so
    no projection is needed. X and Y are often the same layer.
    Paper: Huang and Wang 2017, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer"
    (https://arxiv.org/abs/1707.01219), section 4. TextBrewer's `mmd`.
    """

    name = "mmd"
    feature = "hidden"
    arity = 2
    same_width = False

    scale: Literal["width", "length"] = "width"
    """The divisor of G. `length` reproduces TextBrewer's releases: with a mask they divide by the padded length, so the
    loss depends on padding."""

    @property
    def scope(self) -> Scope:  # type: ignore[override]  # it follows from a parameter here
        return "row" if self.scale == "width" else "micro_batch"  # the padded length depends on the other rows

    def packs(self) -> bool:
        return self.scale == "width"

    def reduces(self) -> Reduction | None:
        return "similarity" if self.scale == "width" else None

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.features import mmd

        del context
        return partial(mmd, scale=self.scale)


class Nst(Mmd):
    """Neuron selectivity transfer: another name of the loss `mmd`.

    `(G_student - G_teacher)²`, G = X Yᵀ / width. Reduction, mask and paper are those of `mmd`. TextBrewer's `nst`.
    """

    name = "nst"


class AttentionMse(FeatureLoss):
    """Squared difference of attention: `(student - teacher)²`, of probabilities or of scores.

    The feature `attention` has the probabilities, `attention_scores` the values before the softmax, as TinyBERT compares
    them: scores that a mask makes, -100 and less, are 0. The loss of scores is some thousand times that of probabilities.
    Reduction: the mean over heads and pairs of tokens. Mask: pairs with a padding token are left out. Both models need
    the same number of heads.
    Paper: Jiao et al. 2020, "TinyBERT" (https://arxiv.org/abs/1909.10351), equation 7, with `attention_scores`.
    TextBrewer's `attention_mse`.
    """

    name = "attention_mse"
    scope = "row"
    feature = "attention"
    scores = True
    same_width = False
    same_heads = True
    with_other_heads = "use `attention_mse_sum`, or give the student as many heads"

    clip_negative: bool = False
    """Without a mask, set values below -0.001 to 0 in both models, as TextBrewer does. It is for scores, the values before
    the softmax; it does not affect probabilities, and does nothing with a mask."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.attention import attention_mse

        del context
        return partial(attention_mse, clip_negative=self.clip_negative)


class AttentionMseSum(FeatureLoss):
    """Squared difference of attention summed over heads: `(Σ_h student_h - Σ_h teacher_h)²`.

    Reduction: the mean over pairs of tokens; it grows with the number of heads. Mask: pairs with a padding token are
    left out. The numbers of heads may differ, but the sums then differ as well.
    Paper: Yang et al. 2020, "TextBrewer" (https://arxiv.org/abs/2002.12620), its `attention_mse_sum`.
    """

    name = "attention_mse_sum"
    scope = "row"
    feature = "attention"
    scores = True
    same_width = False

    clip_negative: bool = False
    """Without a mask, set sums below -0.001 to 0 in both models, as TextBrewer does. It is for scores, the values before
    the softmax; it does not affect probabilities, and does nothing with a mask."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.attention import attention_mse_sum

        del context
        return partial(attention_mse_sum, clip_negative=self.clip_negative)


class AttentionCe(FeatureLoss):
    """Cross-entropy of attention over keys: `-Σ_k p_k log q_k`, p the teacher's and q the student's, for each query.

    Reduction: the mean over heads and queries. Mask: queries that `inputs_mask` masks are excluded, and p and q are scaled
    to sum to 1 over the keys that it keeps. Both models need the same number of heads.
    Its minimum is the entropy of the teacher's attention, not 0.
    Paper: Sun et al. 2020, "MobileBERT" (https://arxiv.org/abs/2004.02984), section 3.2, as a KL divergence, which has
    the same gradient. TextBrewer's `attention_ce`, which is for scores: `from_scores`.
    """

    name = "attention_ce"
    scope = "row"
    feature = "attention"
    same_width = False
    same_heads = True
    with_other_heads = "use `attention_ce_mean`"

    from_scores: bool = False
    """The feature has scores, the values before the softmax; p and q are their softmax (TextBrewer). Masked keys must then
    have large negative scores in both models."""
    clip_negative: bool = False
    """Without a mask, leave out keys with a teacher score below -0.001, as TextBrewer does; only together with
    `from_scores`."""

    @field_validator("clip_negative")
    @classmethod
    def _only_scores_are_clipped(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if value and not info.data.get("from_scores"):
            raise PydanticCustomError("without_effect", "only scores can be clipped; set `from_scores: true`")
        return value

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.attention import attention_ce

        del context
        return partial(attention_ce, from_scores=self.from_scores, clip_negative=self.clip_negative)


class AttentionCeMean(AttentionCe):
    """Cross-entropy over keys of attention averaged over heads: `-Σ_k p_k log q_k`, p the teacher's mean, q the student's.

    Reduction: the mean over queries. Mask: queries that `inputs_mask` masks are excluded, and p and q are scaled to sum to
    1 over the keys that it keeps. The numbers of heads may differ.
    Its minimum is the entropy of the teacher's mean attention, not 0.
    Paper: Yang et al. 2020, "TextBrewer" (https://arxiv.org/abs/2002.12620), its `attention_ce_mean`.
    """

    name = "attention_ce_mean"
    same_heads = False

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.attention import attention_ce_mean

        del context
        return partial(attention_ce_mean, from_scores=self.from_scores, clip_negative=self.clip_negative)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The feature losses."""
    return [
        HiddenMse,
        CosineLoss,
        Pkd,
        Fsp,
        Gram,
        Mmd,
        Nst,
        AttentionMse,
        AttentionMseSum,
        AttentionCe,
        AttentionCeMean,
    ]
