"""What a model has answered to the rows of a split: what a task's metrics are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A model's logits for some rows of a split, beside their labels; all tensors are on the CPU.

    Where the model has one head, `logits[0]` and `labels[0]` are all there is: one tensor a batch, rows first.
    """

    split: str
    """`validation` or `test`, in most cases."""
    rows: Sequence[int]
    """The numbers of the rows in the order of the tensors, which is not that of the split."""
    examples: Sequence[Mapping[str, Any]]
    """Each of these rows as `encode` has made it."""
    logits: Sequence[Sequence[Tensor]]
    """By head, then by batch; float32."""
    labels: Sequence[Sequence[Tensor]]
    """By head, then by batch, as `collate` has made them."""
    tokenizer: Any | None = None
    """What the rows were encoded by."""

    def of_tokens(self, head: int = 0) -> Iterator[Tensor]:
        """Row by row the logits of the row's own tokens, `(length, ...)`, without those of the padding."""
        left = getattr(self.tokenizer, "padding_side", "right") == "left"
        rows = (row for batch in self.logits[head] for row in batch)
        for example, row in zip(self.examples, rows, strict=True):
            length = len(example["input_ids"])
            yield row[len(row) - length :] if left else row[:length]
