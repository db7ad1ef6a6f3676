"""A queue of a teacher's vectors from earlier optimizer steps, which serve as negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdspec.diagnostics.fault import Fault
from kdspec.ops.embeddings.losses import contrastive
from kdspec.ops.features import direction


class QueuedContrastive(nn.Module):
    """`contrastive` with the teacher's vectors of earlier steps as further negatives.

    The vectors of a step are added and dropped together, so that the queue, as a set, does not depend on the order of the
    rows within a step: it has the latest steps that fit into `size` as a whole. It is saved and loaded with the state of
    the module.

    Args:
        temperature: the temperature of the loss.
        size: the largest number of vectors.
    """

    vectors: Tensor
    """(size, width), the directions of the teacher's vectors, the oldest first; (0, 0) before the first step."""
    steps: Tensor
    """(size,), the number of the step of each vector, from 1; 0 for none."""

    def __init__(self, temperature: float, size: int) -> None:
        super().__init__()
        self.temperature, self.size = temperature, size
        self.register_buffer("vectors", torch.zeros(0, 0))
        self.register_buffer("steps", torch.zeros(0, dtype=torch.int64))

    def forward(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of the rows of one step; adds the teacher's vectors to the queue. `mask` is ignored.

        Raises:
            Fault: KD516 if a step has more rows than the queue.
        """
        del mask
        if len(teacher) > self.size:
            message = f"a step of {len(teacher)} rows does not fit into a queue of {self.size}"
            raise Fault("KD516", message, ("loss",), help=f"write `queue: {4 * len(teacher)}`, or leave it out")
        found = direction(teacher.detach())
        if not len(self.steps):
            self.vectors = found.new_zeros(self.size, found.shape[-1])
            self.steps = torch.zeros(self.size, dtype=torch.int64, device=found.device)
        loss = contrastive(student, teacher, self.temperature, self.vectors, self.steps > 0)
        self._add(found)
        return loss

    @torch.no_grad()
    def _add(self, found: Tensor) -> None:
        count = len(found)
        # Nothing is read back to the CPU, so that a GPU is not synchronised.
        newest = self.steps.amax() + 1
        kept = torch.cat([self.steps[count:], newest.expand(count)])
        # The numbers ascend, and a step that loses a row is dropped as a whole.
        self.steps = torch.where(kept > self.steps[:count].amax(), kept, 0) if count else self.steps
        self.vectors = torch.cat([self.vectors[count:].to(found.dtype), found])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # The shapes are those of the saved queue: the width is known at the first step only.
        for name in ("vectors", "steps"):
            own, saved = getattr(self, name), state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.shape != own.shape:
                setattr(self, name, torch.empty(saved.shape, dtype=saved.dtype, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
