"""A loss that has not been divided yet: a total and what to divide it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Unit = Literal["rows", "labels", "labelled", "tokens", "pairs"]


@dataclass(frozen=True)
class Mean:
    """A mean that is still in two parts, so that it can be taken over more than one batch.

    The mean over an optimizer step is the sum of the totals over the sum of the counts. A mean of the means of its
    micro-batches is something else wherever these differ in size: it depends on how the batch was cut.

    The engine has to know the sum of the counts before it differentiates the first total. It does not have the counts
    of the later micro-batches then, but it can count anything in their inputs, so each loss says in `per` what its
    count is exactly proportional to:

    - ``rows``: examples;
    - ``labels``: positions that `logits_mask` keeps; the rows where a row has one label;
    - ``labelled``: positions whose label is not -100, or among floating-point labels not NaN;
    - ``tokens``: positions that `inputs_mask` keeps, all of them without a mask;
    - ``pairs``: the sum over the rows of their tokens squared.

    The total is at least float32; it carries the gradient. The count carries none.
    """

    total: Tensor
    count: Tensor | float
    per: Unit = "rows"

    def __post_init__(self) -> None:
        assert self.total.ndim == 0, f"the total of a mean is a scalar, not of shape {tuple(self.total.shape)}"

    @property
    def value(self) -> Tensor:
        """The mean, a scalar; where nothing is counted 0, with a gradient of zeros rather than none."""
        if not isinstance(self.count, Tensor):
            return self.total / self.count if self.count else self.total * 0
        empty = self.count == 0
        return torch.where(empty, 0.0, self.total / torch.where(empty, 1, self.count))
