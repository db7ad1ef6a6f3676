"""Removes padding: selects the non-padding tokens of a layer once, for all losses that read it."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

SMALL = 1 << 16
"""Layers with fewer elements are not packed: selecting the tokens would take longer than it saves."""


class Packing:
    """Packs layers: selects the non-padding tokens of `(batch, length, width)` as `(tokens, width)`, row after row.

    Args:
        mask: `(batch, length)`, not 0 for a non-padding token.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._taken: dict[int, tuple[Tensor, Tensor]] = {}

    @cached_property
    def lengths(self) -> list[int]:
        """The number of tokens of each row."""
        found: list[int] = self.mask.count_nonzero(1).tolist()
        return found

    @cached_property
    def _index(self) -> Tensor | None:
        """The positions of the non-padding tokens; None without padding."""
        return None if sum(self.lengths) == self.mask.numel() else (self.mask != 0).flatten().nonzero()[:, 0]

    @classmethod
    def by(cls, mask: Tensor | None) -> Packing | None:
        """A packing, or None if the mask cannot be counted: on a GPU the number of tokens needs a synchronisation."""
        # A fake tensor (a subclass, so `type` is compared) has no values to count.
        fits = type(mask) is Tensor and mask.device.type == "cpu" and mask.ndim == 2
        return cls(mask) if fits and mask is not None else None

    def suits(self, layer: Tensor) -> bool:
        """Whether the layer has the mask's shape and is large enough."""
        return layer.ndim == 3 and layer.shape[:2] == self.mask.shape and layer.numel() >= SMALL

    def of(self, layer: Tensor) -> Tensor:
        """The layer's non-padding tokens, `(tokens, width)`; the same tensor on repeated calls."""
        # An id may be reused once its tensor is freed, so the tensor is kept and compared.
        found = self._taken.get(id(layer))
        if found is None or found[0] is not layer:
            flat = layer.flatten(0, 1)
            found = (layer, flat if self._index is None else flat.index_select(0, self._index))
            self._taken[id(layer)] = found
        return found[1]
