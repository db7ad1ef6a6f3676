"""One teacher's cache at work: the features of a batch from the disk, after the teacher has said what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.step import Features
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.device import placed
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.teacher_cache.codec import ALIGNMENT, array
from kdspec.engine.teacher_cache.layout import Batch, CacheRows, Layout, Masks
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import TOKENS, MaskName, Slot, Uncacheable, rebuilt, tensors
from kdspec.engine.teacher_cache.store import CacheDamage, Store

CPU = torch.device("cpu")


class TeacherCache:
    """Reads rows of any order and batch; a block that nobody has computed yet is computed now.

    What is read for a row never depends on its batch: the value that was kept is used from the first time on. When it
    has all blocks the teacher leaves its device.

    Args:
        forward: the teacher.
        rows: its rows in blocks.
        layout: where each row lies.
        store: the files.
        masks: which tokens count.
        autocast: the arithmetic that the teacher runs in.
        device: where it runs.
        warn: told of what goes wrong without stopping anything.
    """

    def __init__(
        self,
        forward: ModelRunner | Reducing,
        *,
        rows: CacheRows,
        layout: Layout,
        store: Store,
        masks: Masks,
        autocast: Callable[[], AbstractContextManager[Any]],
        device: torch.device,
        warn: Callable[[str], None],
    ) -> None:
        self.forward, self.rows, self.layout, self.store, self.masks = forward, rows, layout, store, masks
        self.autocast, self.device, self.warn = autocast, device, warn
        self.names = tuple(dict.fromkeys(slot.feature for slot in layout.slots))
        self.hits = 0
        """Rows that were read."""
        self.computed = 0
        """Rows that the teacher was run for."""
        self.failed = False
        """Whether the disk has refused, so that the teacher is run for every batch from then on."""
        self._have = bytearray(rows.blocks)
        self._missing = rows.blocks
        self._known = [name for name, feature in forward.features.items() if name not in self.names]
        self._masks = {slot.mask for slot in layout.slots if slot.mask is not None}
        self._resting = False
        self._settle(complete=self._present())

    @property
    def complete(self) -> bool:
        """Whether no block is missing on the disk."""
        return self._present()

    def __call__(self, batch: Batch, rows: Sequence[int], here: Batch | None = None) -> Features | None:
        """The teacher's features of a batch; None where the teacher has to be run, since the disk has refused.

        Args:
            batch: the rows for the teacher, padded as they may be.
            rows: their numbers.
            here: the same batch on the CPU, so that the device is not waited for.
        """
        places = self.rows.place[list(rows)]
        if self.failed or not self.fill(np.unique(self.rows.block_of[places]).tolist()):
            return None
        self.hits += len(rows)
        kept = self.masks.of(batch if here is None else here)
        counts = self.rows.counts
        if any(name not in kept or (kept[name].sum(1) != counts[name][places]).any() for name in self._masks):
            self.give_up("rows are not as they were when it was filled")
            return None
        values = [self._read(number, slot, places, kept) for number, slot in enumerate(self.layout.slots)]
        features = rebuilt(self.layout.slots, values)
        return Features({**features, **self.forward.of_batch(batch, self._known)})

    def fill(self, blocks: Sequence[int]) -> bool:
        """Have the teacher compute those of the blocks that are missing; whether all of them are there then."""
        for block in blocks:
            if self._have[block]:
                continue
            try:
                self._fetch(block)
            except (OSError, Uncacheable) as error:
                self.give_up(_reason(error))
                return False
        return True

    def give_up(self, reason: str) -> None:
        """Go on without the cache."""
        self.failed = True
        self._settle(complete=False)
        name, folder = self.forward.name, self.store.folder
        self.warn(
            f"the cache of teacher `{name}` in {folder} cannot be used: {reason}; the teacher runs for every batch"
        )

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()

    def _present(self) -> bool:
        try:
            return self.store.count() == self.rows.blocks
        except OSError:
            return False

    def _settle(self, *, complete: bool) -> None:
        """A teacher that is not needed makes room on its device."""
        if complete != self._resting:
            placed(self.forward.module, CPU if complete else self.device)
            self._resting = complete

    def _fetch(self, block: int) -> None:
        """Make sure of one block, which another process may be computing just now."""
        if not self._whole(block):
            with self.store.alone(block):
                if not self._whole(block):
                    self.store.write(block, self._computed(block))
        self._have[block] = 1
        self._missing -= 1
        if not self._missing:
            self._settle(complete=True)

    def _whole(self, block: int) -> bool:
        try:
            return self.store.has(block)
        except CacheDamage:
            folder = self.store.folder
            self.warn(f"block {block} of the cache in {folder} is damaged, so it is computed again")
            return False

    def _computed(self, block: int) -> bytearray:
        batch = self.rows.batch(block)
        self._settle(complete=False)
        on_device = {key: value.to(self.device) for key, value in batch.items()}
        with isolated_random(), frozen(self.forward.module), self.autocast():
            features = self.forward(on_device)
        self.computed += len(self.rows.rows(block))
        found = [tensor.detach().to(CPU) for *_, tensor in tensors(features, self.names)]
        return self._packed(block, found, self.masks.of(batch))

    def _packed(self, block: int, found: Sequence[Tensor], kept: Mapping[MaskName, NDArray[np.bool_]]) -> bytearray:
        first, last = (int(place) for place in self.rows.starts[block : block + 2])
        at = int(self.layout.starts[first, 0])
        end = int(self.layout.starts[last, 0]) if last < self.rows.loader.rows else self.layout.bytes
        content = bytearray(end - at)
        for number, (slot, tensor) in enumerate(zip(self.layout.slots, found, strict=True)):
            _check(slot, tensor, last - first, kept)
            for row in range(last - first):
                value = tensor[row]
                if slot.mask is not None:
                    value = _select(slot, value, kept[slot.mask][row])
                data = self.layout.codec.encode(slot, value)
                start = int(self.layout.starts[first + row, number]) - at
                content[start : start + len(data)] = data
        assert not len(content) % ALIGNMENT, "every slot is aligned"
        return content

    def _read(
        self, number: int, slot: Slot, places: NDArray[np.int64], kept: Mapping[MaskName, NDArray[np.bool_]]
    ) -> Tensor:
        """One tensor of a batch; what no token of a mask has is 0."""
        layout, view = self.layout, self.store.view
        mask = None if slot.mask is None else kept[slot.mask]
        shape = slot.of(0 if mask is None else mask.shape[1])
        tensor = torch.zeros((len(places), *shape), dtype=layout.codec.decoded_type(slot))
        into = array(tensor)
        starts, tokens = layout.starts[places, number].tolist(), layout.tokens[number][places].tolist()
        for row, (start, count) in enumerate(zip(starts, tokens, strict=True)):
            value = layout.codec.decode(slot, view, start, count)
            if mask is None:
                into[row] = value
            else:
                at = _positions(mask[row], count)
                into[(row, *_along(slot, at))] = value
        return tensor if self.device == CPU else tensor.pin_memory().to(self.device, non_blocking=True)


def _check(slot: Slot, tensor: Tensor, rows: int, kept: Mapping[MaskName, NDArray[np.bool_]]) -> None:
    length = 0 if slot.mask is None else kept[slot.mask].shape[1]
    shape, dtype = (rows, *slot.of(length)), str(tensor.dtype).removeprefix("torch.")
    if tuple(tensor.shape) != shape or dtype != slot.dtype:
        seen = f"{tuple(tensor.shape)} {dtype}"
        raise Uncacheable(f"`{slot.feature}` is {seen} for some rows, where {shape} {slot.dtype} was expected")


def _positions(mask: NDArray[np.bool_], count: int) -> slice | NDArray[np.int64]:
    """Where a mask keeps something; a slice, which is faster, where there are no gaps."""
    first = int(mask.argmax()) if count else 0
    if mask[first : first + count].all():
        return slice(first, first + count)
    return np.flatnonzero(mask)


def _along(slot: Slot, at: slice | NDArray[np.int64]) -> tuple[Any, ...]:
    """An index that takes these positions on each axis of tokens."""
    if isinstance(at, slice):
        return tuple(at if size == TOKENS else slice(None) for size in slot.shape)
    return np.ix_(*(at if size == TOKENS else np.arange(size) for size in slot.shape))


def _select(slot: Slot, value: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    at = torch.from_numpy(np.flatnonzero(mask))
    for axis, size in enumerate(slot.shape):
        if size == TOKENS:
            value = value.index_select(axis, at)
    return value


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
