"""What a teacher answers as samples: a key of each one's inputs, and the blocks in which a teacher computes them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.batch import Batch
from kdspec.engine.teacher_cache.answered.answered import Answered
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.segment_index import KEY, keys_of
from kdspec.engine.teacher_cache.slots import MaskName, Uncacheable

ROWS = 32
"""Maximum samples of a block."""
TOKENS = 4096
"""Maximum tokens of a block, including padding; a longer sample is a block of its own."""
_ROWS_AT_ONCE, _TOKENS_AT_ONCE = 1024, 32_768
"""Rows that are collated together to make their keys."""

Counts = Mapping[MaskName, NDArray[np.int64]]
"""For each mask the number of non-padding tokens of each sample."""


class SampleKeys(Sequence[bytes]):
    """The keys of samples by their number, in one array."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        """Of type `S16`; numpy cuts the last zeros of single entries off."""
        self._data = array.tobytes()
        self._order = np.argsort(array)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return keys_of(self.array[index])
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._data[index * KEY : (index + 1) * KEY]

    def number(self, key: bytes) -> int | None:
        """The number of the sample with this key; None if there is none."""
        at = int(np.searchsorted(self.array, np.frombuffer(key, self.array.dtype), sorter=self._order)[0])
        number = int(self._order[at]) if at < len(self) else None
        return number if number is not None and self[number] == key else None


class Samples:
    """The inputs of a teacher, row by row, or piece by piece. Those with equal inputs are one sample.

    The last bits of a teacher's output for a row depend on the other rows of its batch. Missing samples are therefore
    computed in blocks of similar length that depend only on the rows: not on the order of training, nor on when and how
    often a run was stopped.

    Args:
        answered: the rows or pieces.
        inputs: gives the teacher's inputs of a batch.
        masks: which tokens are not padding.

    Raises:
        Uncacheable: an input does not have one entry for each of them.
    """

    def __init__(self, answered: Answered, inputs: Callable[[Batch], Mapping[str, Any]], masks: Masks) -> None:
        self.answered = answered
        sizes = answered.lengths
        order = np.argsort(sizes, kind="stable")
        digests: list[bytes] = []
        tokens: dict[MaskName, list[NDArray[np.int64]]] = {}
        for rows in _alike(order, sizes):
            # Rows of one length need no padding, so that a key depends only on its own row.
            batch = answered.batch(rows)
            kept = masks.of(batch)
            digests += _digests(len(rows), inputs(batch), kept)
            for name, mask in kept.items():
                tokens.setdefault(name, []).append(mask.sum(1))
        keys = np.frombuffer(b"".join(digests), f"S{KEY}")
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        ranks = np.argsort(np.argsort(first))
        self._number = np.empty(len(order), np.int64)
        """The sample number of each row or piece; samples are numbered in the order of their lengths."""
        self._number[order] = ranks[inverse]
        first.sort()
        self.keys = SampleKeys(keys[first])
        self.counts: Counts = {name: np.concatenate(found)[first] for name, found in tokens.items()}
        self._first: NDArray[np.int64] = order[first]
        self.starts = np.array([*_block_starts(sizes[self._first].tolist()), len(self.keys)], np.int64)
        """The first sample of each block, and at the end the number of samples."""
        self.block_of = np.searchsorted(self.starts, np.arange(len(self.keys)), side="right") - 1
        """The block of each sample."""

    def of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """The numbers of the samples that a batch of these rows reads."""
        return self._number[self.answered.of(rows)]

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.starts) - 1

    def block(self, number: int) -> range:
        """The samples of a block."""
        return range(int(self.starts[number]), int(self.starts[number + 1]))

    def batch(self, samples: Sequence[int]) -> Batch:
        """Samples as a batch on the CPU."""
        return self.answered.batch(self._first[list(samples)].tolist())


def _alike(order: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[list[int]]:
    """Rows of one length in batches; each row of unknown length alone."""
    ordered = sizes[order]
    starts = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        length = int(ordered[start]) if end else 0
        most = max(1, min(_ROWS_AT_ONCE, _TOKENS_AT_ONCE // length)) if length else 1
        for at in range(start, end, most):
            yield order[at : min(at + most, end)].tolist()


def _digests(rows: int, inputs: Mapping[str, Any], kept: Mapping[MaskName, NDArray[np.bool_]]) -> Iterator[bytes]:
    """The key of each row: a checksum of its inputs by name, with type and shape, and of its masks."""
    parts: list[tuple[str, NDArray[np.uint8]]] = []
    for name, tensor in sorted(_flat(inputs)):
        if not tensor.ndim or len(tensor) != rows:
            raise Uncacheable(f"its input `{name}` does not have one entry a row")
        shape = tuple(tensor.shape[1:])
        flat = tensor.contiguous().reshape(rows, math.prod(shape))
        parts.append((f"{name} {tensor.dtype} {shape}\n", flat.view(torch.uint8).numpy()))
    for mask, positions in kept.items():
        parts.append((f"{mask} {positions.shape[1]}\n", np.packbits(positions, axis=1)))
    heads = [np.frombuffer(head.encode(), np.uint8) for head, _ in parts]
    columns = [
        column
        for head, (_, data) in zip(heads, parts, strict=True)
        for column in (np.broadcast_to(head, (rows, len(head))), data)
    ]
    together = np.concatenate(columns, axis=1)
    width, content = together.shape[1], together.data.cast("B")
    for row in range(rows):
        yield hashlib.sha256(content[row * width : (row + 1) * width]).digest()[:KEY]


def _flat(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors by name; those of a field with a name begin with it."""
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", tensor) for key, tensor in value.items())
        else:
            yield name, value


def _block_starts(lengths: Sequence[int]) -> Iterator[int]:
    """The first samples of the blocks; `lengths` is sorted."""
    start = 0
    for place, length in enumerate(lengths):
        if not place or place - start >= ROWS or (place - start + 1) * length > TOKENS:
            start = place
            yield place
