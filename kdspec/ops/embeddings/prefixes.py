"""A loss of several prefixes of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from kdspec.diagnostics.fault import Fault
from kdspec.ops.mean import Mean

Loss = Callable[..., Tensor | Mean]


class Prefixes(nn.Module):
    """The weighted sum of losses of prefixes, (rows, width) each.

    Args:
        parts: for each prefix its width, its weight and its loss.
        cuts_teacher: whether the teacher's vectors are cut to the same width.
    """

    def __init__(self, parts: Sequence[tuple[int, float, Loss]], *, cuts_teacher: bool) -> None:
        super().__init__()
        self.parts, self.cuts_teacher = tuple(parts), cuts_teacher
        # By width, so that their parameters and buffers are trained and saved.
        self.losses = nn.ModuleDict({str(width): loss for width, _, loss in parts if isinstance(loss, nn.Module)})

    def forward(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor | Mean:
        """The loss.

        Raises:
            Fault: KD302 if a prefix is wider than the vectors.
        """
        sides = (student, teacher) if self.cuts_teacher else (student,)
        whole = min(int(side.shape[-1]) for side in sides)
        total: Tensor | None = None
        mean: Mean | None = None
        for width, weight, loss in self.parts:
            if width > whole:
                message = f"the vectors are {whole} wide, and a prefix of them cannot be {width} wide"
                raise Fault("KD302", message, ("loss", "matryoshka", "widths"), help=f"write widths up to {whole}")
            found = loss(student[:, :width], teacher[:, :width] if self.cuts_teacher else teacher, mask=mask)
            mean = found if isinstance(found, Mean) else None
            value = weight * (found.total if isinstance(found, Mean) else found)
            total = value if total is None else total + value
        assert total is not None, "there is at least one prefix"
        # All prefixes have the same rows, so that their counts are equal.
        return total if mean is None else Mean(total, mean.count, mean.per)
