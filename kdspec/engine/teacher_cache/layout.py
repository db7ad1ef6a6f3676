"""Where each row lies in a cache: rows of similar length in blocks, each computed, checked and kept as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.field_path import FieldPathError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.teacher_cache.codec import Codec
from kdspec.engine.teacher_cache.slots import MaskName, Slot
from kdspec.plan.plan import Feature

ROWS = 32
"""The most rows of a block."""
TOKENS = 4096
"""The most tokens of a block, padding included, but for a single row."""

Counts = Mapping[MaskName, NDArray[np.int64]]
"""For each mask how many tokens count in each row."""
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Masks:
    """Which tokens of a batch the losses read: a cache keeps these and no others."""

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
        masks = [path.evaluate(batch=batch) for path in feature.paths]
    except FieldPathError:  # a task whose rows have no padding may have no mask either
        return None
    if any(not isinstance(mask, Tensor) or mask.shape != masks[0].shape for mask in masks):
        return None
    return torch.stack([mask != 0 for mask in masks]).any(0)


class CacheRows:
    """The rows that a teacher is given, in blocks: a function of the rows alone, not of the order of training.

    What a teacher says of a row depends, in the last bits, on what is computed together with it. Blocks that never
    change make it a function of the row, whichever run asks for it, when, and how often it was stopped.

    Args:
        feed: the rows.
        model: the teacher's name.
        inputs: what the teacher is given of a batch.
        masks: which tokens count.
    """

    def __init__(self, loader: Loader, model: str, inputs: Callable[[Batch], Batch], masks: Masks) -> None:
        self.loader, self.model = loader, model
        sizes = lengths(loader, model)
        self.order: NDArray[np.int64] = np.argsort(sizes, kind="stable")
        self.place = np.empty_like(self.order)
        """For each row its place in the order."""
        self.place[self.order] = np.arange(loader.rows)
        self.starts = np.array([*_cuts(sizes[self.order].tolist()), loader.rows], np.int64)
        """The places at which blocks begin, and the end."""
        self.block_of = np.searchsorted(self.starts, np.arange(loader.rows), side="right") - 1
        """For each place its block."""
        digest = hashlib.sha256()
        counts: dict[MaskName, list[NDArray[np.int64]]] = {}
        for block in range(self.blocks):
            batch = self.batch(block)
            kept = masks.of(batch)
            for name, mask in kept.items():
                counts.setdefault(name, []).append(mask.sum(1))
                digest.update(np.packbits(mask).tobytes())
            for key, tensor in sorted(inputs(batch).items()):
                digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        self.counts: Counts = {name: np.concatenate(parts) for name, parts in counts.items()}
        """In the order of the places."""
        self.digest = digest.hexdigest()

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    def rows(self, block: int) -> list[int]:
        """The row numbers of a block."""
        found: list[int] = self.order[self.starts[block] : self.starts[block + 1]].tolist()
        return found

    def batch(self, block: int) -> Batch:
        """A block as a batch on the CPU."""
        return self.loader.batch(self.model, self.rows(block))


def lengths(loader: Loader, model: str) -> NDArray[np.int64]:
    """How many tokens each row has for a model, 0 where its rows are not of tokens."""
    ids = (loader.example(model, row).get("input_ids", ()) for row in range(loader.rows))
    return np.array([len(value) if isinstance(value, Sized) else 0 for value in ids], np.int64)


def _cuts(lengths: Sequence[int]) -> Iterator[int]:
    """Where blocks begin, in rows sorted by length."""
    start = 0
    for place, length in enumerate(lengths):
        if not place or place - start >= ROWS or (place - start + 1) * length > TOKENS:
            start = place
            yield place


class Layout:
    """The bytes of every row and slot.

    Args:
        slots: what there is of a row.
        counts: how many tokens each row has, by its place.
        codec: how values are kept.
    """

    def __init__(self, slots: Sequence[Slot], counts: Counts, codec: Codec, rows: int) -> None:
        self.slots, self.codec = tuple(slots), codec
        self.tokens = [
            np.zeros(rows, np.int64) if slot.mask is None else counts[slot.mask].astype(np.int64) for slot in slots
        ]
        """For each slot the tokens of each row, by its place."""
        sizes = np.stack([codec.sizes(slot, tokens) for slot, tokens in zip(self.slots, self.tokens, strict=True)], 1)
        ends = np.cumsum(sizes.reshape(-1))
        self.starts: NDArray[np.int64] = np.concatenate([[0], ends[:-1]]).reshape(sizes.shape)
        """Where each slot of each row begins: `(rows, slots)`."""
        self.bytes = int(ends[-1])

    def blocks(self, rows: CacheRows) -> NDArray[np.int64]:
        """Where each block begins, and the end."""
        return np.append(self.starts[rows.starts[:-1], 0], self.bytes)

    def mean(self) -> float:
        """The bytes of an average row."""
        return self.bytes / len(self.starts)
