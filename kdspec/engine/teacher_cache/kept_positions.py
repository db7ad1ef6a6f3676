"""The tokens of a batch that losses read: a cache stores only these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.paths.field_path import FieldPathError
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.engine.teacher_cache.slots import MaskName


@dataclass(frozen=True)
class Masks:
    """The mask features, for the inputs and for the logits."""

    inputs: Feature | None
    logits: Feature | None

    def of(self, batch: Batch) -> dict[MaskName, NDArray[np.bool_]]:
        """The masks of the batch, `(rows, length)`."""
        written: dict[MaskName, Feature | None] = {"inputs": self.inputs, "logits": self.logits}
        found: dict[MaskName, Tensor | None] = {
            name: None if feature is None else _any(batch, feature) for name, feature in written.items()
        }
        return {name: (mask != 0).cpu().numpy() for name, mask in found.items() if mask is not None and mask.ndim == 2}


def _any(batch: Batch, feature: Feature) -> Tensor | None:
    """The positions that at least one of the feature's masks keeps."""
    if any(path.root != "batch" for path in feature.paths):
        return None
    try:
        masks = [path.evaluate(batch=batch.named) for path in feature.paths]
    except FieldPathError:  # a task without padding may have no mask
        return None
    if any(not isinstance(mask, Tensor) or mask.shape != masks[0].shape for mask in masks):
        return None
    return torch.stack([mask != 0 for mask in masks]).any(0)
