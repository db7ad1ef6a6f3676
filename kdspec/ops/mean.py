"""A loss before the division: a total and a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Unit = Literal["rows", "labels", "labelled", "answered", "tokens", "pairs"]


@dataclass(frozen=True)
class Mean:
    """A mean as total and count, so that it can be computed over several micro-batches.

    The mean over an optimizer step is the sum of the totals divided by the sum of the counts. The mean of the means of
    its micro-batches differs if these differ in size: it depends on how the batch was split.

    The engine needs the sum of the counts before the first backward pass. It does not have the counts of later
    micro-batches then, but it can count their inputs, so each loss states in `per` the unit to which its count is exactly
    proportional:

    - ``rows``: examples;
    - ``labels``: positions that `logits_mask` keeps; rows if a row has one label;
    - ``labelled``: positions with a label other than -100, or a floating-point label other than NaN;
    - ``answered``: rows, or words, to which any teacher has an answer, by the feature `answered`; else as ``labels``;
    - ``tokens``: positions that `inputs_mask` keeps; all of them without a mask;
    - ``pairs``: the sum over rows of their squared number of tokens.

    The total is at least float32; it carries the gradient. The count carries none.
    """

    total: Tensor
    count: Tensor | float
    per: Unit = "rows"

    def __post_init__(self) -> None:
        assert self.total.ndim == 0, f"the total of a mean is a scalar, not of shape {tuple(self.total.shape)}"

    @property
    def value(self) -> Tensor:
        """The mean, a scalar; 0 if the count is 0, with a gradient of zeros rather than none."""
        if not isinstance(self.count, Tensor):
            return self.total / self.count if self.count else self.total * 0
        # The divisor is replaced too: the gradient of a division by 0 is NaN even where it is not selected.
        empty = self.count == 0
        return torch.where(empty, 0.0, self.total / torch.where(empty, 1, self.count))
