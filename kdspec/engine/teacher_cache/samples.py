"""The rows of a stage as samples: a key of each one's inputs, and the blocks in which a teacher computes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.batch import Batch
from kdspec.engine.batches.loader import Loader
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.segment_index import KEY
from kdspec.engine.teacher_cache.slots import MaskName

ROWS = 32
"""Maximum samples of a block."""
TOKENS = 4096
"""Maximum tokens of a block, including padding; a longer sample is a block of its own."""

Counts = Mapping[MaskName, NDArray[np.int64]]
"""For each mask the number of non-padding tokens of each sample."""


class Samples:
    """The inputs of a teacher, row by row. Rows with equal inputs are one sample.

    The last bits of a teacher's output for a row depend on the other rows of its batch. Missing samples are therefore
    computed in blocks of similar length that depend only on the rows: not on the order of training, nor on when and how
    often a run was stopped.

    Args:
        loader: the rows.
        model: the teacher's name.
        inputs: gives the teacher's inputs of a batch.
        masks: which tokens are not padding.
    """

    def __init__(
        self, loader: Loader, model: str, inputs: Callable[[Batch], Mapping[str, Tensor]], masks: Masks
    ) -> None:
        self.loader, self.model = loader, model
        sizes = loader.lengths_for(model)
        order: list[int] = np.argsort(sizes, kind="stable").tolist()
        self.of_row = np.empty(loader.rows, np.int64)
        """The sample number of each row; samples are numbered in the order of their lengths."""
        self.numbers: dict[bytes, int] = {}
        """The number of a sample by its key."""
        self._first: list[int] = []
        counts: dict[MaskName, list[int]] = {}
        for rows in _alike(order, sizes):
            # Rows of one length need no padding, so that a key depends only on its own row.
            batch = loader.batch(model, rows)
            kept = masks.of(batch)
            given = sorted(inputs(batch).items())
            for place, row in enumerate(rows):
                key = _key([(name, tensor[place]) for name, tensor in given], {n: m[place] for n, m in kept.items()})
                if key not in self.numbers:
                    self.numbers[key] = len(self._first)
                    self._first.append(row)
                    for name, mask in kept.items():
                        counts.setdefault(name, []).append(int(mask[place].sum()))
                self.of_row[row] = self.numbers[key]
        self.keys: tuple[bytes, ...] = tuple(self.numbers)
        self.counts: Counts = {name: np.array(found, np.int64) for name, found in counts.items()}
        self.starts = np.array([*_block_starts(sizes[self._first].tolist()), len(self.keys)], np.int64)
        """The first sample of each block, and at the end the number of samples."""
        self.block_of = np.searchsorted(self.starts, np.arange(len(self.keys)), side="right") - 1
        """The block of each sample."""

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.starts) - 1

    def block(self, number: int) -> range:
        """The samples of a block."""
        return range(int(self.starts[number]), int(self.starts[number + 1]))

    def batch(self, samples: Sequence[int]) -> Batch:
        """Samples as a batch on the CPU."""
        return self.loader.batch(self.model, [self._first[sample] for sample in samples])


def _alike(order: Sequence[int], sizes: NDArray[np.int64]) -> Iterator[list[int]]:
    """Rows of one length in batches; each row of unknown length alone."""
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) == ROWS or not sizes[row] or sizes[row] != sizes[rows[0]]):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _key(inputs: Sequence[tuple[str, Tensor]], kept: Mapping[MaskName, NDArray[np.bool_]]) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in inputs:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for mask, positions in kept.items():
        digest.update(f"{mask} {len(positions)}\n".encode())
        digest.update(np.packbits(positions).tobytes())
    return digest.digest()[:KEY]


def _block_starts(lengths: Sequence[int]) -> Iterator[int]:
    """The first samples of the blocks; `lengths` is sorted."""
    start = 0
    for place, length in enumerate(lengths):
        if not place or place - start >= ROWS or (place - start + 1) * length > TOKENS:
            start = place
            yield place
