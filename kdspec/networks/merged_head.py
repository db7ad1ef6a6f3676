"""A loaded head some of whose classes are one class of the task."""

from __future__ import annotations

from torch import Tensor, nn

from kdspec.ops.merged_classes import merged_logits


class MergedHead(nn.Module):
    """The last layer of a classifier, with the logits of merged classes in place of theirs.

    Args:
        head: its layer, with an output for each class of the files.
        groups: for each class of the task the outputs that become it.
    """

    def __init__(self, head: nn.Module, groups: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.head, self.groups = head, groups

    def forward(self, hidden: Tensor) -> Tensor:
        """`(..., classes of the task)`."""
        return merged_logits(self.head(hidden), self.groups)

    def extra_repr(self) -> str:
        """The groups, which are a part of what a teacher cache is valid for."""
        return f"groups={self.groups}"
