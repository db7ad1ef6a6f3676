"""Which tokens of a batch the losses read: a cache keeps these and no others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.batch import Batch
from kdspec.api.field_path import FieldPathError
from kdspec.api.plan import Feature
from kdspec.engine.teacher_cache.slots import MaskName


@dataclass(frozen=True)
class Masks:
    """The features that are masks, of the inputs and of the logits."""

    inputs: Feature | None
    logits: Feature | None

    def of(self, batch: Batch) -> dict[MaskName, NDArray[np.bool_]]:
        """The masks, `(rows, length)`, that the batch has."""
        written: dict[MaskName, Feature | None] = {"inputs": self.inputs, "logits": self.logits}
        found: dict[MaskName, Tensor | None] = {
            name: None if feature is None else _any(batch, feature) for name, feature in written.items()
        }
        return {name: (mask != 0).cpu().numpy() for name, mask in found.items() if mask is not None and mask.ndim == 2}


def _any(batch: Batch, feature: Feature) -> Tensor | None:
    """Where one of the feature's masks keeps a token."""
    if any(path.root != "batch" for path in feature.paths):
        return None
    try:
        masks = [path.evaluate(batch=batch.named) for path in feature.paths]
    except FieldPathError:  # a task whose rows have no padding may have no mask either
        return None
    if any(not isinstance(mask, Tensor) or mask.shape != masks[0].shape for mask in masks):
        return None
    return torch.stack([mask != 0 for mask in masks]).any(0)
