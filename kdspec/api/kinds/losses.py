"""The kinds of component that compute on a batch of rows: losses, projections and temperatures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kdspec.api.component import Component
from kdspec.api.kinds.context import BuildContext, ProjectionContext

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.ops.divergence import Tempered
    from kdspec.ops.mean import Mean
    from kdspec.ops.temperature import Sides


LogitKind = Literal["classes", "labels", "numbers", "scores"]
"""The meaning of the logits of a row or token: classes of which one is right, labels each of which is true or false,
predicted numbers, or the scores of a query's candidates, `(rows, candidates)` with -inf where a row has none."""

LOGIT_KINDS: Mapping[LogitKind, str] = MappingProxyType(
    {
        "classes": "classes of which one is right",
        "labels": "labels of which several may hold",
        "numbers": "numbers",
        "scores": "scores of candidates",
    }
)
"""The kinds of logits in words, for messages."""


Reduction = Literal["first", "similarity"]
"""A reduction of a teacher's hidden states: the first non-padding token, `(batch, width)`, or the similarity of the tokens
of one layer or of two, X Yᵀ / width, `(batch, length, length)`."""


_SIDES = ("student", "teacher")

Scope = Literal["position", "row", "micro_batch", "step"]
"""What a component needs at once: one token or row, one row with all its tokens, the rows of a micro-batch, or those of a
whole optimizer step over all processes."""


class Scoped(Component):
    """The base of the kinds that compute on a batch of rows during training."""

    scope: ClassVar[Scope] = "micro_batch"
    """What it needs at once.

    - `position`: each token alone, or each row alone if a row has one vector of logits.
    - `row`: each row alone, with any amount of padding.
    - `micro_batch`: the rows of a micro-batch together; nothing is promised.
    - `step`: the rows of an optimizer step together, over all its micro-batches and processes.

    A loss of the scope `position` or `row` returns a `Mean` with the sum over positions or rows as its total. If all parts
    of a stage have these scopes, a batch can be split into smaller ones with the same gradient, which saves padding
    (`training.batching`). Keep the default for a loss that averages over the batch, or may compare rows.
    """


class LogitLoss(Scoped):
    """Compares logits: `f(student, teacher, *, temperature) -> Tensor | Mean`, with `labels=` where `needs_labels`.

    Logits are `(batch, classes)`, or `(tokens, classes)` for token tasks, with padding already removed by a mask.
    `temperature` is a float or one value a row. The loss may be an `nn.Module` with parameters of its own: they are
    trained, clipped and saved with the student.
    """

    kind: ClassVar[str] = "logit_loss"
    needs_labels: ClassVar[bool] = False
    """Whether the loss also takes `labels`, `(rows,)`, -100 for a row without a label."""
    takes_labels: ClassVar[bool] = False
    """Whether it takes `labels` where the task has them, and None where it has not."""
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"classes"})
    """The kinds of logits that it compares. A softmax over independent labels, or over one number, has no meaning."""
    scaled_by_temperature: ClassVar[bool] = False
    """Whether a temperature only divides the loss by its square, and softens nothing. The default temperature of soft labels
    is then a warning."""

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[..., Tensor | Mean]:
        """Make the working object; the docstring of the class describes it."""


class Divergence(LogitLoss):
    """A logit loss that compares two distributions at each position, by `value(log_p, log_q)`.

    kdspec applies temperature, mask, chunks and mean. The scores of candidates are logits too, so that a divergence is a
    listwise loss; a candidate that is not there has a logarithm of -10,000 on both sides. If only the largest logits of a
    teacher are known, the distributions are over these classes and, as one more outcome, all others together.
    """

    scope: ClassVar[Scope] = "position"
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"classes", "scores"})
    squares_temperature: ClassVar[bool] = True
    """Whether the value is multiplied by T², so that the gradient has about the same size at every temperature."""

    @abstractmethod
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The divergence at each position, `(positions,)`.

        Args:
            log_p: logarithms of the teacher's probabilities at the temperature, `(positions, outcomes)`, in float32 or
                float64; -inf for an outcome with the probability 0.
            log_q: those of the student; the gradient flows through them.
        """

    def build(self, context: BuildContext) -> Tempered:
        """The loss between logits, with `value`."""
        from kdspec.ops.divergence import Tempered

        del context
        return Tempered(self.value, squares=self.squares_temperature, fills=True)


class FeatureLoss(Scoped):
    """Compares intermediate features: `f(student, teacher, *, mask) -> Tensor | Mean`.

    Hidden states are `(batch, length, width)`, attention `(batch, heads, length, length)`, embeddings, one vector a row,
    `(batch, width)`; if `arity` is 2, each side is a pair of tensors. `mask` is `(batch, length)`, 1 for a token and 0 for
    padding, or None; it does not concern embeddings.
    """

    kind: ClassVar[str] = "feature_loss"
    arity: ClassVar[int] = 1
    """Number of layers of each model that the loss takes: 1 or 2."""
    same_width: ClassVar[bool] = True
    """Whether both sides must have the same width. If they differ, a projection is derived."""
    same_heads: ClassVar[bool] = False
    """Whether both sides must have the same number of attention heads."""
    with_other_heads: ClassVar[str | None] = None
    """The fix to suggest if they differ."""
    compares_positions: ClassVar[bool] = True
    """Whether it compares features with an entry for each token place by place, so that both models must read the same
    tokens. False for one that takes the first token only."""
    feature: ClassVar[Literal["hidden", "attention", "embedding"] | None] = None
    """The one of these that it compares; the others are then an error. Features of other names are allowed."""
    vectors: ClassVar[bool] = False
    """Whether a loss for `hidden` also compares `embedding`: `(batch, width)`, one vector a row, as a mean over rows."""
    scores: ClassVar[bool] = False
    """Whether a loss for attention also compares `attention_scores`, the values before the softmax: 0 where a key is masked."""

    def packs(self) -> bool:
        """Whether the built loss also takes hidden states without padding.

        Where that is faster, it then gets the non-padding tokens only, `(tokens, width)` row after row, with `lengths=`,
        the number of tokens of each row, in place of `mask=`. Its value must be the same up to rounding.
        """
        return False

    def reduces(self) -> Reduction | None:
        """The reduction of the teacher's layer, or of its pair of layers, that is enough to compute the loss.

        The built loss must then also accept the reduction as `teacher`, a tensor, with `mask=`. The teacher cache stores
        it in place of the hidden states if no other loss needs these. It may be 0 at padding tokens.
        """
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[..., Tensor | Mean]:
        """Make the working object; the docstring of the class describes it."""


class Projection(Scoped):
    """An `nn.Module` from student width to teacher width (those of the `ProjectionContext`)."""

    kind: ClassVar[str] = "projection"
    projects: ClassVar[bool] = True
    """False for `none`, which means no projection."""
    keeps: ClassVar[Literal["keep", "fold"] | None] = None
    """Whether it is a layer of the student, behind its vector of a text, and how that is saved: as a layer of its own, or
    multiplied into the layer before it. None: it is of the match, and thrown away after training."""

    @abstractmethod
    def build(self, context: ProjectionContext) -> nn.Module:
        """Make the working object; the docstring of the class describes it."""

    def packs(self) -> bool:
        """Whether each token is projected independently of the others, so that `(tokens, width)` is accepted too."""
        return False

    def optimizer_options(self) -> Mapping[str, Any]:
        """Options of the projection's own optimizer group (`lr`, `weight_decay`); others are those of the stage."""
        return {}


class Temperature(Scoped):
    """`f(student_logits, teacher_logits, progress) -> float | Tensor | Sides`: one temperature, or one for each row.

    With `kdspec.ops.temperature.Sides` student and teacher have temperatures of their own. Every loss gets that of the
    student, and the teacher's logits scaled so that at this temperature they are at their own.
    """

    kind: ClassVar[str] = "temperature"
    classes_only: ClassVar[str | None] = None
    """Why it needs logits of classes, as the message for other logits says; None: it takes all logits."""

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A number is a constant, and a mapping with `student` or `teacher` a number for each side."""
        if is_number(value):
            return "constant", {"value": value}
        return ("sides", dict(value)) if isinstance(value, Mapping) and _names_a_side(value) else None

    def fixed(self) -> Collection[float] | None:
        """All temperatures of the teacher in a stage, if they do not depend on logits; None if they do."""
        return None

    def fixed_of_student(self) -> Collection[float] | None:
        """Those of the student; by default the teacher's."""
        return self.fixed()

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], float | Tensor | Sides]:
        """Make the working object; the docstring of the class describes it."""


def _names_a_side(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is about `student` or `teacher`, or has numbers alone, one of them for a misspelt side."""
    near = (get_close_matches(str(key), _SIDES, 1, 0.75) for key in value)
    return any(side in value for side in _SIDES) or (all(map(is_number, value.values())) and any(near))


def is_number(value: Any) -> bool:
    """Whether a value of a spec is a number; a boolean is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
