"""The slots of a row in a cache: one for each tensor of a teacher's output, with its shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.logits import Logits, as_tensor
from kdspec.api.working.step import Features

SlotPlace = Literal["whole", "layer", "head"]
MaskName = Literal["inputs", "logits"]

TOKENS = -1
"""In a shape: the number of non-padding tokens of the row."""


class Uncacheable(Exception):  # noqa: N818 - a finding, reported with its stage
    """Raised with the reason that follows "the teacher is not cached:", and with what helps besides the use `auto`."""

    def __init__(self, reason: str, help: str = "") -> None:  # noqa: A002 - as in a diagnostic
        super().__init__(reason)
        self.help = help


@dataclass(frozen=True)
class Slot:
    """One tensor of a row."""

    feature: str
    place: SlotPlace
    index: int
    """The index of the layer or the head."""
    dtype: str
    """The name of the torch type, without `torch.`."""
    shape: tuple[int, ...]
    """The shape for one row, with `TOKENS` for an axis of tokens."""
    mask: MaskName | None = None
    """The mask of its tokens, if it has an axis of tokens."""

    def numbers(self, tokens: int) -> int:
        """The number of elements for a row with this number of tokens."""
        return math.prod(self.of(tokens))

    def vectors(self, tokens: int) -> int:
        """The number of vectors along the last axis."""
        return math.prod(self.of(tokens)[:-1]) if self.numbers(tokens) else 0

    def of(self, tokens: int) -> tuple[int, ...]:
        """The shape for a row with this number of tokens."""
        return tuple(tokens if size == TOKENS else size for size in self.shape)


def tensors(features: Features, names: Sequence[str]) -> Iterator[tuple[str, SlotPlace, int, Tensor]]:
    """The tensors of the named features with their places; logits are dense."""
    for name, kind, index, value in values(features, names):
        yield name, kind, index, as_tensor(value)


def values(features: Features, names: Sequence[str]) -> Iterator[tuple[str, SlotPlace, int, Tensor | Logits]]:
    """The values of the named features with their places; logits as the teacher returns them."""
    for name in names:
        value = features[name]
        kind: SlotPlace = "whole"
        parts: list[tuple[int, Any]] = [(0, value)]
        if isinstance(value, Mapping):
            kind, parts = "layer", list(value.items())
        elif isinstance(value, (tuple, list)):
            kind, parts = "head", list(enumerate(value))
        for index, part in parts:
            if not isinstance(part, (Tensor, Logits)) or not isinstance(index, int):
                raise Uncacheable(f"`{name}` is not made of tensors")
            yield name, kind, index, part


def rebuilt(slots: Sequence[Slot], values: Sequence[Any]) -> dict[str, Any]:
    """The inverse of `tensors`: features from a value for each slot."""
    found: dict[str, Any] = {}
    for slot, value in zip(slots, values, strict=True):
        if slot.place == "layer":
            found.setdefault(slot.feature, {})[slot.index] = value
        elif slot.place == "head":
            found[slot.feature] = (*found.get(slot.feature, ()), value)
        else:
            found[slot.feature] = value
    return found


@dataclass(frozen=True)
class Sight:
    """A teacher's outputs for one row alone, and the length of that row for each mask."""

    features: Features
    lengths: Mapping[MaskName, int]


def slots_of(first: Sight, second: Sight, names: Sequence[str]) -> tuple[Slot, ...]:
    """The slots of a teacher, from its outputs for a short and for a long row.

    Raises:
        Uncacheable: a feature has no row axis, or the size of an axis varies without following the tokens.
    """
    pairs = zip(tensors(first.features, names), tensors(second.features, names), strict=True)
    return tuple(_slot(name, place, index, a, b, (first, second)) for (name, place, index, a), (*_, b) in pairs)


def _slot(name: str, place: SlotPlace, index: int, a: Tensor, b: Tensor, sights: tuple[Sight, Sight]) -> Slot:
    if a.ndim != b.ndim or not a.ndim or a.shape[0] != 1 or b.shape[0] != 1:
        raise Uncacheable(f"`{name}` does not have one entry a row")
    # Logits of a language model are shifted by one position and have their own mask, which is preferred.
    masks: list[MaskName] = ["logits", "inputs"] if name == "logits" else ["inputs"]
    shape, mask = [], None
    for one, other in zip(a.shape[1:], b.shape[1:], strict=True):
        if one == other:
            shape.append(one)
            continue
        lengths = {m: tuple(sight.lengths.get(m) for sight in sights) for m in masks}
        fitting = next((m for m in masks if lengths[m] == (one, other)), None)
        if fitting is None or mask not in (None, fitting):
            raise Uncacheable(f"`{name}` has an axis of {one} for one row and {other} for another, and no mask for it")
        mask = fitting
        shape.append(TOKENS)
    return Slot(name, place, index, str(a.dtype).removeprefix("torch."), tuple(shape), mask)


def of_row(slot: Slot, value: Tensor | Logits, row: int, mask: NDArray[np.bool_] | None) -> Tensor:
    """The value of a row on the CPU, at the positions that a mask keeps.

    For a large head only the kept logits are computed, one row at a time.
    """
    if isinstance(value, Tensor):
        return value[row] if mask is None else _select(slot, value[row], mask)
    one = value.part(slice(row, row + 1))
    if mask is None:
        return one.dense()[0].detach().cpu()
    return one.select(torch.from_numpy(mask)[None].to(one.tensors[0].device)).dense().detach().cpu()


def _select(slot: Slot, value: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    at = torch.from_numpy(np.flatnonzero(mask))
    for axis, size in enumerate(slot.shape):
        if size == TOKENS:
            value = value.index_select(axis, at)
    return value


def index_of(shape: Sequence[int], mask: NDArray[np.bool_], count: int) -> tuple[Any, ...]:
    """An index of the `count` positions that a mask keeps, on each axis of tokens; faster slices if they have no gaps."""
    first = int(mask.argmax()) if count else 0
    if mask[first : first + count].all():
        return tuple(slice(first, first + count) if size == TOKENS else slice(None) for size in shape)
    at = np.flatnonzero(mask)
    return np.ix_(*(at if size == TOKENS else np.arange(size) for size in shape))
