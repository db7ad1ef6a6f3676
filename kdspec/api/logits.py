"""The logits of a model as a value: a tensor, a large head that is not applied yet, or the largest with the rest as one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from kdspec.diagnostics.fault import Fault
from kdspec.ops.masks import select
from kdspec.ops.mean import Mean
from kdspec.ops.precision import widened
from kdspec.ops.vocabulary import chunk_size, summed_over_chunks

PositionLoss = Callable[[Tensor, slice], Mean]
"""Given logits and which of the positions they are of, a loss that takes each position by itself."""


class Logits(ABC):
    """Logits of positions: of rows, or of the tokens of rows."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """How many classes there are at each position."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """The leading shape: `(rows,)`, `(rows, length)`, or `(positions,)` where a mask has selected."""

    @abstractmethod
    def dense(self) -> Tensor:
        """All logits in one tensor, `(*shape, classes)`."""

    @abstractmethod
    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same with what `function` makes of each tensor that has an entry a position."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """What they are made of; a gradient of the logits reaches these."""

    def mean(self, loss: PositionLoss, parameters: Sequence[Tensor] = ()) -> Mean:
        """What `loss` gives for all positions, of which each counts by itself.

        It is called with all logits, `(*shape, classes)`, and a slice of all positions; of a large head with the logits
        of some positions, `(positions, classes)`, and which of the positions in row-major order these are, again and
        again: the totals are added, and so are the counts.

        Args:
            loss: gives a `Mean` over the positions that it is given.
            parameters: what it depends on besides, that is trained.
        """
        del parameters
        return loss(self.dense(), slice(None))

    @property
    def positions(self) -> int:
        """How many positions there are."""
        return math.prod(self.shape)

    def select(self, mask: Tensor) -> Self:
        """Those of the positions that a mask of the leading shape keeps, `(positions,)`; it keeps what is not 0."""
        return self.mapped(lambda tensor: select(tensor, mask))

    def chunks(self, size: int | None = None) -> Iterator[Self]:
        """All positions in row-major order, in parts of at most `size` of them; by default of what fits into a chunk."""
        flat, size = self.flat(), size or chunk_size(self.positions, self.classes)
        for start in range(0, self.positions, size):
            yield flat.part(slice(start, start + size))

    def flat(self) -> Self:
        """The positions in one axis, `(positions,)`, in row-major order."""
        ndim = len(self.shape)
        return self if ndim == 1 else self.mapped(lambda tensor: tensor.flatten(end_dim=ndim - 1))

    def part(self, rows: slice) -> Self:
        """Some entries of the first axis."""
        return self.mapped(lambda tensor: tensor[rows])


@dataclass(frozen=True, eq=False)
class DenseLogits(Logits):
    """Logits that are there: what a head of few classes gives."""

    tensor: Tensor
    """`(*shape, classes)`."""

    @property
    def classes(self) -> int:
        """The last axis."""
        return self.tensor.shape[-1] if self.tensor.ndim else 1

    @property
    def shape(self) -> torch.Size:
        """All axes but the last."""
        return self.tensor.shape[:-1]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The one."""
        return (self.tensor,)

    def dense(self) -> Tensor:
        """The tensor itself."""
        return self.tensor

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """With another tensor."""
        return replace(self, tensor=function(self.tensor))


@dataclass(frozen=True)
class HeadPost:
    """What a model does to the logits that its head gives: `cap · tanh(scale · z / cap)`."""

    scale: float = 1.0
    soft_cap: float | None = None
    """The cap; None for none."""

    def __call__(self, logits: Tensor) -> Tensor:
        """The scaled and capped logits; a gradient flows through both."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.soft_cap is None else self.soft_cap * torch.tanh(logits / self.soft_cap)


@dataclass(frozen=True, kw_only=True)
class OutputHead:
    """The last linear layer of a model, which makes logits of hidden states: `post(hidden @ weight.T + bias)`.

    It is looked up by its name when it is applied: weights may be gathered for a forward pass alone, or be tied.
    """

    path: str
    """The name of the `nn.Linear` in the model."""
    post: HeadPost = field(default_factory=HeadPost)


@dataclass(frozen=True, eq=False)
class HeadLogits(Logits):
    """Logits that are not computed yet: a large head, and the hidden states that it is for.

    All logits of a batch of texts over a vocabulary take gigabytes. A loss of the scope `position` is given them chunk by
    chunk; `dense` makes all of them at once.
    """

    hidden: Tensor
    """`(*shape, width)`."""
    weight: Tensor
    """`(classes, width)`."""
    bias: Tensor | None = None
    """`(classes,)`."""
    post: HeadPost = field(default_factory=HeadPost)

    @property
    def classes(self) -> int:
        """The rows of the weight."""
        return self.weight.shape[0]

    @property
    def shape(self) -> torch.Size:
        """All axes of the hidden states but the last."""
        return self.hidden.shape[:-1]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The hidden states and the head's weights."""
        return (self.hidden, self.weight) if self.bias is None else (self.hidden, self.weight, self.bias)

    def dense(self) -> Tensor:
        """The head applied to every position."""
        return self.post(functional.linear(self.hidden, self.weight, self.bias))

    def mean(self, loss: PositionLoss, parameters: Sequence[Tensor] = ()) -> Mean:
        """The sum over chunks; the gradient is taken while they are there, and can be taken once."""
        parts: list[Mean] = []

        def summed(rows: slice, logits: Tensor) -> Tensor:
            parts.append(part := loss(logits, rows))
            return part.total

        hidden = self.hidden.flatten(end_dim=-2)
        total = summed_over_chunks(summed, hidden, self.weight, self.bias, post=self.post, parameters=parameters)
        count = sum((part.count for part in parts[1:]), start=parts[0].count)
        return Mean(total, count, parts[0].per)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """With other hidden states and the same head."""
        return replace(self, hidden=function(self.hidden))


class TopKLogits(Logits):
    """The largest logits of a teacher, and what the others come to, which count as one more outcome.

    The probability outside of the list is never spread over the vocabulary: of k logits there are k + 1 outcomes, for the
    student too. How much it is depends on the temperature, so it is known at those alone that `log_rest` has.

    Args:
        ids: the classes of the list, `(*shape, k)`, each of them once.
        values: their logits, `(*shape, k)`, up to a number that is the same for all classes of a position.
        log_rest: for each temperature T the logarithm of the sum of `exp(z / T)` over all other classes, `(*shape,)`; the
            logits z are up to the same number as `values`.
        classes: how many classes the teacher has, on the list or not.
    """

    def __init__(self, ids: Tensor, values: Tensor, log_rest: Mapping[float, Tensor], classes: int) -> None:
        self.ids, self.values, self.log_rest = ids, values, dict(log_rest)
        self._classes = classes

    @property
    def classes(self) -> int:
        """Those of the teacher, on the list or not."""
        return self._classes

    @property
    def shape(self) -> torch.Size:
        """All axes of the list but the last."""
        return self.ids.shape[:-1]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The list and the rests."""
        return (self.ids, self.values, *self.log_rest.values())

    def dense(self) -> Tensor:
        """There is no such tensor.

        Raises:
            Fault: KD315.
        """
        message = f"of {self.classes} logits only the largest {self.ids.shape[-1]} are known, and all are asked for"
        raise Fault("KD315", message, help="keep all logits: leave out `top_k` of `teacher_cache`")

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """With other lists, and other rests."""
        rest = {temperature: function(tensor) for temperature, tensor in self.log_rest.items()}
        return type(self)(function(self.ids), function(self.values), rest, self.classes)

    def log_probabilities(self, temperature: float) -> Tensor:
        """Of the k listed classes and, last, of all others together: `(*shape, k + 1)`, at this temperature.

        Raises:
            Fault: KD315, where the rest is not known at this temperature.
        """
        rest = self.log_rest.get(float(temperature))
        if rest is None:
            known = ", ".join(f"{each:g}" for each in sorted(self.log_rest)) or "none"
            message = f"the probability outside of the largest logits is not known at the temperature {temperature:g}"
            raise Fault("KD315", message, notes=(f"it is known at: {known}",))
        return self._outcomes(widened(self.values) / temperature, widened(rest)[..., None])

    def log_outcomes(self, logits: Tensor, temperature: float) -> Tensor:
        """What logits of all classes, `(*shape, classes)`, say of the same k + 1 outcomes; a gradient flows through it."""
        tempered = widened(logits) / temperature
        listed = tempered.gather(-1, self.ids)
        return self._outcomes(listed, tempered.scatter(-1, self.ids, -torch.inf).logsumexp(-1, keepdim=True))

    def _outcomes(self, listed: Tensor, rest: Tensor) -> Tensor:
        # A list of all classes leaves nothing, whose logarithm would have a gradient of NaN.
        complete = self.ids.shape[-1] >= self.classes
        return (listed if complete else torch.cat([listed, rest], -1)).log_softmax(-1)


def as_logits(value: Any) -> Any:
    """A tensor as logits that are there; anything else as it is."""
    return DenseLogits(value) if isinstance(value, Tensor) else value


def as_tensor(value: Any) -> Any:
    """Logits as one tensor; anything else as it is."""
    return value.dense() if isinstance(value, Logits) else value
