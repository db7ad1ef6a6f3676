"""The kinds of component that compute something of a batch of rows: losses, projections and temperatures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kdspec.api.component import Component
from kdspec.api.context import BuildContext, ProjectionContext

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.ops.divergence import Tempered
    from kdspec.ops.mean import Mean


LogitKind = Literal["classes", "labels", "numbers"]
"""What the logits of a row or token stand for: classes of which one is right, labels of which each holds or does not,
or numbers that are predicted as they are."""

LOGIT_KINDS: Mapping[LogitKind, str] = MappingProxyType(
    {
        "classes": "classes of which one is right",
        "labels": "labels of which several may hold",
        "numbers": "numbers",
    }
)
"""What logits stand for, in words."""


Reduction = Literal["first", "similarity"]
"""What may be enough of a teacher's hidden states: the first token that counts, `(batch, width)`, or how alike the tokens
of one layer, or of a pair, are: X Yᵀ / width, `(batch, length, length)`."""


Scope = Literal["position", "row", "micro_batch", "step"]
"""What a component has to see at once: one token or row, one row with all its tokens, the rows of a micro-batch, or those
of a whole optimizer step over all processes."""


class Scoped(Component):
    """What the kinds have in common that compute something of a batch of rows while a student is trained."""

    scope: ClassVar[Scope] = "micro_batch"
    """What it has to see at once.

    - `position`: each token, or each row where a row has one vector of logits, by itself.
    - `row`: each row by itself, however far it is padded.
    - `micro_batch`: the rows of a micro-batch together; nothing is promised.
    - `step`: the rows of an optimizer step together, over all its micro-batches and processes.

    A loss of the scope `position` or `row` gives a `Mean` whose total is the sum of what it computes of each. Where all
    parts of a stage have these scopes, a batch may be cut into smaller ones with the same gradient, which saves padding
    (`training.batching`). What averages over the batch by itself, compares rows, or may do either, keeps the default.
    """


class LogitLoss(Scoped):
    """Compares logits: `f(student, teacher, *, temperature) -> Tensor | Mean`, with `labels=` where `needs_labels`.

    Logits are `(batch, classes)`, or `(tokens, classes)` for token tasks, where a mask has already chosen the tokens.
    `temperature` is a float or one value a row. The loss may be an `nn.Module` with parameters of its own: they are
    trained, clipped and saved with the student.
    """

    kind: ClassVar[str] = "logit_loss"
    needs_labels: ClassVar[bool] = False
    """Whether the loss also takes `labels`, `(rows,)`, -100 where there is none."""
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"classes"})
    """What logits may stand for: a softmax over labels that hold together, or over a number, teaches nothing."""

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[..., Tensor | Mean]:
        """Make the working object; the class says what it is."""


class Divergence(LogitLoss):
    """A logit loss that compares two distributions: of each position `value(log_p, log_q)`, and nothing else.

    Temperature, mask, chunks and the mean are not its own. Where of a teacher only the largest logits are known, the
    distributions are over these classes and, as one more outcome, all others together.
    """

    scope: ClassVar[Scope] = "position"
    squares_temperature: ClassVar[bool] = True
    """Whether the value is multiplied by T², so that the gradient has about the same size at every temperature."""

    @abstractmethod
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The divergence at each position, `(positions,)`.

        Args:
            log_p: logarithms of the teacher's probabilities at the temperature, `(positions, outcomes)`, in float32 at
                least; -inf for what the teacher rules out.
            log_q: those of the student; the gradient flows through them.
        """

    def build(self, context: BuildContext) -> Tempered:
        """The loss between logits, with `value`."""
        from kdspec.ops.divergence import Tempered

        del context
        return Tempered(self.value, squares=self.squares_temperature)


class FeatureLoss(Scoped):
    """Compares inner features: `f(student, teacher, *, mask) -> Tensor | Mean`.

    Hidden states are `(batch, length, width)`, attention `(batch, heads, length, length)`; where `arity` is 2 each
    side is a pair of tensors. `mask` is `(batch, length)`, 1 for a token and 0 for padding, or None.
    """

    kind: ClassVar[str] = "feature_loss"
    arity: ClassVar[int] = 1
    """How many layers of each model the loss takes: 1 or 2."""
    same_width: ClassVar[bool] = True
    """Whether both sides must have the same width, so that a projection is derived where they differ."""
    same_heads: ClassVar[bool] = False
    """Whether both sides must have the same number of attention heads."""
    with_other_heads: ClassVar[str | None] = None
    """What to do where they have not, for the user."""
    feature: ClassVar[Literal["hidden", "attention"] | None] = None
    """Which of these two it is made for, so that the other one is a mistake; features of other names it may take."""

    def packs(self) -> bool:
        """Whether the built loss also takes hidden states without padding.

        It is then given, where that is faster, the tokens that count and no others, `(tokens, width)` row after row,
        with `lengths=`, how many each row has, in place of `mask=`. Its value must be the same up to rounding.
        """
        return False

    def reduces(self) -> Reduction | None:
        """What is enough of the teacher's layer, or of its pair of layers, to compute the loss.

        The built loss then also takes that as `teacher`, a tensor, with `mask=`. A cache keeps it in place of the hidden
        states where no other loss needs these. In padding it may be 0.
        """
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[..., Tensor | Mean]:
        """Make the working object; the class says what it is."""


class Projection(Scoped):
    """An `nn.Module` from student width to teacher width (those of the `ProjectionContext`)."""

    kind: ClassVar[str] = "projection"
    projects: ClassVar[bool] = True
    """False for the one that stands for no projection."""

    @abstractmethod
    def build(self, context: ProjectionContext) -> nn.Module:
        """Make the working object; the class says what it is."""

    def packs(self) -> bool:
        """Whether what it makes of a token depends on no other token, so that it also takes `(tokens, width)`."""
        return False

    def optimizer_options(self) -> Mapping[str, Any]:
        """Options of the projection's own optimizer group (`lr`, `weight_decay`); what is left out is the stage's."""
        return {}


class Temperature(Scoped):
    """`f(student_logits, teacher_logits, progress) -> float | Tensor`: one temperature, or one for each row."""

    kind: ClassVar[str] = "temperature"

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A number is a constant."""
        return ("constant", {"value": value}) if is_number(value) else None

    def fixed(self) -> Collection[float] | None:
        """The temperatures that there will be, where they do not depend on logits; None where they do."""
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], float | Tensor]:
        """Make the working object; the class says what it is."""


def is_number(value: Any) -> bool:
    """Whether a value of a spec is a number, which a truth value is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
