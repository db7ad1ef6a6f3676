"""Logits as values: a tensor, a large head that is not applied yet, or the top k with the total of all others."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdspec.diagnostics.fault import Fault
from kdspec.ops.leaves import leaves
from kdspec.ops.masks import select
from kdspec.ops.mean import Mean
from kdspec.ops.precision import widened
from kdspec.ops.vocabulary import chunk_size, summed_over_chunks

PositionLoss = Callable[[Tensor, slice], Mean]
"""A loss of the scope `position`, of logits and the slice of positions that they belong to."""


class Logits(ABC):
    """Logits of positions: of rows, or of the tokens of rows."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of classes at each position."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """The leading shape: `(rows,)`, `(rows, length)`, or `(positions,)` after a mask was applied."""

    @abstractmethod
    def dense(self) -> Tensor:
        """All logits in one tensor, `(*shape, classes)`."""

    @abstractmethod
    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The logits with `function` applied to each tensor that has one entry per position."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that they are computed from; a gradient of the logits reaches these."""

    def mean(self, loss: PositionLoss, parameters: Sequence[Tensor] = ()) -> Mean:
        """The value of a loss of the scope `position` over all positions.

        `loss` is called with all logits, `(*shape, classes)`, and a slice of all positions. For a large head it is called
        once per chunk, with the logits `(positions, classes)` of the chunk and its slice in row-major order; totals and
        counts are summed.

        Args:
            loss: returns a `Mean` over the positions that it is given.
            parameters: trained tensors that it depends on, besides the logits.
        """
        del parameters
        return loss(self.dense(), slice(None))

    @property
    def positions(self) -> int:
        """Number of positions."""
        return math.prod(self.shape)

    def select(self, mask: Tensor) -> Self:
        """The positions at which a mask of the leading shape is not 0, `(positions,)`."""
        return self.mapped(lambda tensor: select(tensor, mask))

    def chunks(self, size: int | None = None) -> Iterator[Self]:
        """All positions in row-major order, in chunks of at most `size` of them; by default `ops.vocabulary.chunk_size`."""
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
    """Logits as one tensor."""

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
        """The tensor, alone."""
        return (self.tensor,)

    def dense(self) -> Tensor:
        """The tensor itself."""
        return self.tensor

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """With another tensor."""
        return replace(self, tensor=function(self.tensor))


@dataclass(frozen=True)
class HeadPost:
    """Scaling and soft cap of the logits of a model's head: `cap · tanh(scale · z / cap)`."""

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
    """The last linear layer of a model, from hidden states to logits: `post(hidden @ weight.T + bias)`.

    It is looked up by name when it is applied, since weights may be gathered for a forward pass only, or be tied.
    """

    path: str
    """The name of the `nn.Linear` in the model."""
    post: HeadPost = field(default_factory=HeadPost)


@dataclass(frozen=True, eq=False)
class HeadLogits(Logits):
    """Logits that are not computed yet: a large head and its input, the hidden states.

    All logits of a batch of texts over a vocabulary take gigabytes. A loss of the scope `position` gets them chunk by
    chunk; `dense` computes all of them at once.
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
        """The sum over chunks. Each chunk's gradient is computed with its logits, so backward can run only once.

        Raises:
            Fault: KD510 if the loss depends on a parameter that is not in `parameters`.
        """
        parts: list[Mean] = []

        def summed(rows: slice, logits: Tensor) -> Tensor:
            part = loss(logits, rows)
            if not parts:
                _check_reached(part.total, parameters)
            parts.append(part)
            return part.total

        hidden = self.hidden.flatten(end_dim=-2)
        total = summed_over_chunks(summed, hidden, self.weight, self.bias, post=self.post, parameters=parameters)
        count = sum((part.count for part in parts[1:]), start=parts[0].count)
        return Mean(total, count, parts[0].per)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """With other hidden states and the same head."""
        return replace(self, hidden=function(self.hidden))


class TopKLogits(Logits):
    """The k largest logits of a teacher, and the total of all others as one more outcome.

    The probability outside of the top k is never spread over the vocabulary: there are k + 1 outcomes, for the student
    too. It depends on the temperature, so it is known only at the temperatures in `log_rest`.

    Args:
        ids: the classes of the top k, `(*shape, k)`, each of them once.
        values: their logits, `(*shape, k)`, up to a constant that is the same for all classes of a position.
        log_rest: for each temperature T the logarithm of the sum of `exp(z / T)` over all other classes, `(*shape,)`; the
            logits z are up to the same constant as `values`.
        classes: number of classes of the teacher, in the top k or not.
    """

    def __init__(self, ids: Tensor, values: Tensor, log_rest: Mapping[float, Tensor], classes: int) -> None:
        self.ids, self.values, self.log_rest = ids, values, dict(log_rest)
        self._classes = classes

    @property
    def classes(self) -> int:
        """Those of the teacher, in the top k or not."""
        return self._classes

    @property
    def shape(self) -> torch.Size:
        """All axes of `ids` but the last."""
        return self.ids.shape[:-1]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The top k and the totals of all others."""
        return (self.ids, self.values, *self.log_rest.values())

    def dense(self) -> Tensor:
        """Not possible: only the top k are known.

        Raises:
            Fault: KD315.
        """
        message = f"all {self.classes} logits are needed, and only the largest {self.ids.shape[-1]} are known"
        raise Fault("KD315", message, help="keep all logits: leave out `top_k` of `teacher_cache`")

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """With other tensors for the top k and for the totals of all others."""
        rest = {temperature: function(tensor) for temperature, tensor in self.log_rest.items()}
        return type(self)(function(self.ids), function(self.values), rest, self.classes)

    def log_probabilities(self, temperature: float) -> Tensor:
        """Log-probabilities of the top k and, last, of all other classes together: `(*shape, k + 1)`.

        Raises:
            Fault: KD315, if the total of all others is not known at this temperature.
        """
        rest = self.log_rest.get(float(temperature))
        if rest is None:
            known = ", ".join(f"{each:g}" for each in sorted(self.log_rest)) or "none"
            message = f"the probability outside of the largest logits is not known at the temperature {temperature:g}"
            raise Fault("KD315", message, notes=(f"it is known at: {known}",))
        return self._outcomes(widened(self.values) / temperature, widened(rest)[..., None])

    def log_outcomes(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probabilities of the same k + 1 outcomes from logits of all classes, `(*shape, classes)`; differentiable."""
        tempered = widened(logits) / temperature
        listed = tempered.gather(-1, self.ids)
        return self._outcomes(listed, tempered.scatter(-1, self.ids, -torch.inf).logsumexp(-1, keepdim=True))

    def _outcomes(self, listed: Tensor, rest: Tensor) -> Tensor:
        # If the top k are all classes, the rest is 0, and its logarithm would have a gradient of NaN.
        complete = self.ids.shape[-1] >= self.classes
        return (listed if complete else torch.cat([listed, rest], -1)).log_softmax(-1)


def _check_reached(total: Tensor, parameters: Sequence[Tensor]) -> None:
    """Check that a chunk's loss depends on no other parameters, which would not get a gradient."""
    known = {id(each) for each in parameters}
    for leaf in leaves(total):
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known:
            message = f"a loss has a parameter of shape {list(leaf.shape)} that would never be trained"
            help_ = "a loss with parameters is an `nn.Module` that has them as attributes"
            raise Fault("KD510", message, help=help_)


def as_logits(value: Any) -> Any:
    """A tensor as `DenseLogits`; anything else unchanged."""
    return DenseLogits(value) if isinstance(value, Tensor) else value


def as_tensor(value: Any) -> Any:
    """Logits as one tensor; anything else unchanged."""
    return value.dense() if isinstance(value, Logits) else value
