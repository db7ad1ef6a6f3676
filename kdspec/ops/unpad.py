"""The tokens that count without the others: taken out of a layer once, for all losses that read it."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

SMALL = 1 << 16
"""Layers of fewer numbers than this are left as they are: taking tokens out then takes longer than it saves."""


class Packing:
    """Takes out of layers, `(batch, length, width)`, the tokens that a mask keeps: `(tokens, width)`, row after row.

    Args:
        mask: `(batch, length)`, not 0 for a token that counts.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._taken: dict[int, tuple[Tensor, Tensor]] = {}

    @cached_property
    def lengths(self) -> list[int]:
        """How many tokens each row has."""
        found: list[int] = self.mask.count_nonzero(1).tolist()
        return found

    @cached_property
    def _index(self) -> Tensor | None:
        """The places of the tokens that count; None where all do."""
        return None if sum(self.lengths) == self.mask.numel() else (self.mask != 0).flatten().nonzero()[:, 0]

    @classmethod
    def by(cls, mask: Tensor | None) -> Packing | None:
        """A packing, or None where there can be none: on a GPU the number of tokens is not known without waiting."""
        # A tensor without contents, whose type is another one, has no number of tokens either.
        fits = type(mask) is Tensor and mask.device.type == "cpu" and mask.ndim == 2
        return cls(mask) if fits and mask is not None else None

    def suits(self, layer: Tensor) -> bool:
        """Whether the layer is one of the mask's tokens and large enough."""
        return layer.ndim == 3 and layer.shape[:2] == self.mask.shape and layer.numel() >= SMALL

    def of(self, layer: Tensor) -> Tensor:
        """The layer's tokens that count, `(tokens, width)`; the same tensor when it is asked for again."""
        found = self._taken.get(id(layer))
        if found is None or found[0] is not layer:
            flat = layer.flatten(0, 1)
            found = (layer, flat if self._index is None else flat.index_select(0, self._index))
            self._taken[id(layer)] = found
        return found[1]
