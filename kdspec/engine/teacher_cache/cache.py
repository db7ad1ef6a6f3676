"""One teacher's cache in use: reads the features of a batch from disk, and runs the teacher for missing samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.batch import Batch
from kdspec.api.working.logits import HeadLogits, Logits, as_tensor
from kdspec.api.working.step import Features
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.device import placed
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.teacher_cache.answered.piece_answers import ANSWERS, PieceAnswers, tokens_of
from kdspec.engine.teacher_cache.codecs import array
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.layout import Layout
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.samples import Samples
from kdspec.engine.teacher_cache.slots import MaskName, Slot, Uncacheable, index_of, rebuilt, values
from kdspec.engine.teacher_cache.store import CacheDamage, Store

CPU = torch.device("cpu")
_TRIES = 3
"""How often samples are read again while their files become shorter."""


@dataclass(frozen=True)
class CacheUse:
    """How often a cache was read, and how often the teacher was run."""

    hits: int = 0
    """Number of rows read."""
    computed: int = 0
    """Number of samples for which the teacher was run."""

    def __add__(self, other: CacheUse) -> CacheUse:
        return CacheUse(self.hits + other.hits, self.computed + other.computed)


class TeacherCache:
    """Reads rows in any order and batch; a missing sample is computed together with its block.

    The value of a row never depends on its batch: the stored value is used from the first time on. Once all samples are
    stored, the teacher is moved off its device.

    Args:
        forward: the teacher.
        samples: the rows as samples.
        layout: the bytes of each sample.
        store: the files.
        masks: which tokens are not padding.
        autocast: the precision in which the teacher runs.
        device: where it runs.
        warn: called with problems that do not stop the run.
    """

    def __init__(
        self,
        forward: ModelRunner | Reducing | PieceAnswers,
        *,
        samples: Samples,
        layout: Layout,
        store: Store,
        masks: Masks,
        autocast: Callable[[], AbstractContextManager[Any]],
        device: torch.device,
        warn: Callable[[str], None],
    ) -> None:
        self.forward, self.samples, self.layout, self.store, self.masks = forward, samples, layout, store, masks
        self.autocast, self.device, self.warn = autocast, device, warn
        self.names = tuple(dict.fromkeys(slot.feature for slot in layout.slots))
        self.use = CacheUse()
        """The use by this process."""
        self.failed = False
        """Whether reading or writing has failed; the teacher then runs for every batch."""
        self._have = bytearray(samples.blocks)
        self._known = [name for name, feature in forward.features.items() if name not in self.names]
        self._masks = {slot.mask for slot in layout.slots if slot.mask is not None}
        self._resting = False
        self._settle(complete=self.complete)

    @property
    def complete(self) -> bool:
        """Whether all samples are on disk."""
        return not self.store.absent(self.samples.keys.array).any()

    def __call__(self, batch: Batch, rows: Sequence[int], here: Batch | None = None) -> Features | None:
        """The teacher's features for a batch; None if the cache has failed, so that the teacher has to be run.

        Args:
            batch: the rows for the teacher, with any padding.
            rows: their row numbers.
            here: the same batch on the CPU, which avoids waiting for the device.
        """
        # Blocks, not single rows: the last bits of an output depend on the rows that are computed with it.
        samples = self.samples.of(rows)
        contents = None if self.failed else self._contents(samples)
        if contents is None:
            return None
        self.use += CacheUse(hits=len(rows))
        kept = self._kept(batch if here is None else here, samples)
        if kept is None:
            self.give_up("rows are not as they were when it was opened")
            return None
        read = [self._read(number, slot, samples, contents, kept) for number, slot in enumerate(self.layout.slots)]
        features = rebuilt(self.layout.slots, read)
        if isinstance(self.forward, PieceAnswers):
            mask = self._moved(torch.from_numpy(kept["inputs"])) if self._masks else None
            return self.forward.put_together(batch, features[ANSWERS], mask)
        return Features({**features, **self.forward.of_batch(batch, self._known)})

    def _kept(self, here: Batch, samples: NDArray[np.int64]) -> dict[MaskName, NDArray[np.bool_]] | None:
        """The positions of the batch that are not masked; None if the batch is not of these samples."""
        counts = self.samples.counts
        if isinstance(self.forward, PieceAnswers):
            tokens = tokens_of(here)
            if not np.array_equal(tokens, counts["inputs"][samples]):
                return None
            return {"inputs": np.arange(tokens.max(initial=0)) < tokens[:, None]}
        kept = self.masks.of(here)
        if any(name not in kept or (kept[name].sum(1) != counts[name][samples]).any() for name in self._masks):
            return None
        return kept

    def _contents(self, samples: NDArray[np.int64]) -> list[bytes] | None:
        """The bytes of samples, computed where they are missing; None if the cache has failed."""
        keys, blocks = (
            [self.samples.keys[sample] for sample in samples],
            np.unique(self.samples.block_of[samples]).tolist(),
        )
        for _ in range(_TRIES):
            try:
                return [self.store.read(key) for key in keys] if self.fill(blocks) else None
            except CacheDamage:
                # A file has become shorter since it was verified: look at all samples again when they are read.
                self._have = bytearray(self.samples.blocks)
            except OSError as error:
                self.give_up(_reason(error))
                return None
        self.give_up("its files become shorter while they are read")
        return None

    def fill(self, blocks: Sequence[int]) -> bool:
        """Compute the missing samples of some blocks; returns whether all of their samples are then stored."""
        for block in blocks:
            if self._have[block]:
                continue
            try:
                self._fetch(self.samples.block(block))
            except (OSError, Uncacheable) as error:
                self.give_up(_reason(error))
                return False
            self._have[block] = 1
            # As soon as nothing is missing, the student gets the memory of the teacher.
            if all(self._have):
                self._settle(complete=True)
        return True

    def give_up(self, reason: str) -> None:
        """Continue without the cache."""
        self.failed = True
        self._settle(complete=False)
        name, folder = self.forward.name, self.store.folder
        self.warn(
            f"the cache of teacher `{name}` in {folder} cannot be used: {reason}; the teacher runs for every batch"
        )

    def close(self) -> None:
        """Close the files."""
        self.store.close()

    def _settle(self, *, complete: bool) -> None:
        """Free the device memory of a teacher that is not needed."""
        if complete != self._resting:
            placed(self.forward.module, CPU if complete else self.device)
            self._resting = complete

    def _fetch(self, block: range) -> None:
        """Make sure that the samples of a block are stored; another process may be computing them now."""
        if not self._missing(block):
            return
        with self.store.alone([self.samples.keys[sample] for sample in block]):
            # Again under the lock: another process may have computed the block while this one waited.
            missing = self._missing(block)
            while missing:
                together = self._together(missing)
                self.store.write([self.samples.keys[sample] for sample in together], self._computed(together))
                left = self._missing(block)
                # Without progress, for example on a disk that corrupts what it stores, the loop would never end.
                if len(left) >= len(missing):
                    raise Uncacheable("what is written is not what is read")
                missing = left

    def _missing(self, block: range) -> list[int]:
        """The samples of a block that are absent or incomplete."""
        missing, damaged = [], 0
        for sample in block:
            try:
                if not self._whole(sample):
                    missing.append(sample)
            except CacheDamage:
                missing.append(sample)
                damaged += 1
        if damaged:
            several = f"{damaged} samples" if damaged > 1 else "a sample"
            verb = "are damaged, so they are" if damaged > 1 else "is damaged, so it is"
            self.warn(f"{several} of the cache in {self.store.folder} {verb} computed again")
        return missing

    def _whole(self, sample: int) -> bool:
        key = self.samples.keys[sample]
        return self.store.has(key) and self.store.size_of(key) == self.layout.sizes[sample]

    def _together(self, missing: Sequence[int]) -> list[int]:
        """The samples to compute as one batch: for a damaged sample its former batch, else all missing ones."""
        for sample in missing:
            keys = self.store.together(self.samples.keys[sample])
            numbers = [self.samples.keys.number(key) for key in keys]
            if numbers and None not in numbers:
                return [number for number in numbers if number is not None]
        return list(missing)

    def _computed(self, samples: Sequence[int]) -> list[bytearray]:
        batch = self.samples.batch(samples)
        self._settle(complete=False)
        # Filling must not consume random numbers of training: a run that fills the cache has the bits of one that reads it.
        with isolated_random(), frozen(self.forward.module), self.autocast():
            features = self.forward(batch.to(self.device))
            self.use += CacheUse(computed=len(samples))
            found, kept = [_here(value) for *_, value in values(features, self.names)], self.masks.of(batch)
            for slot, value in zip(self.layout.slots, found, strict=True):
                _check(slot, value, len(samples), kept)
            return [self.layout.packed(sample, found, place, kept) for place, sample in enumerate(samples)]

    def _read(
        self,
        number: int,
        slot: Slot,
        samples: NDArray[np.int64],
        contents: Sequence[bytes],
        kept: Mapping[MaskName, NDArray[np.bool_]],
    ) -> Any:
        """One slot of a batch; masked positions are 0."""
        codec, mask = self.layout.codecs[number], None if slot.mask is None else kept[slot.mask]
        parts = codec.parts(slot)
        length = 0 if mask is None else mask.shape[1]
        made = [torch.zeros((len(samples), *part.of(length)), dtype=part.dtype) for part in parts]
        into = [array(tensor) for tensor in made]
        starts, tokens = self.layout.starts[samples, number].tolist(), self.layout.tokens[samples, number].tolist()
        for row, (content, start, count) in enumerate(zip(contents, starts, tokens, strict=True)):
            for part, there, value in zip(parts, into, codec.decode(slot, content, start, count), strict=True):
                there[(row, *(() if mask is None else index_of(part.shape, mask[row], count)))] = value
        return codec.put_together(slot, [self._moved(tensor) for tensor in made])

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor if self.device == CPU else tensor.pin_memory().to(self.device, non_blocking=True)


def _here(value: Tensor | Logits) -> Tensor | Logits:
    """The value on the CPU; logits of a large head stay uncomputed."""
    return value if isinstance(value, HeadLogits) else as_tensor(value).detach().to(CPU)


def _check(slot: Slot, value: Tensor | Logits, rows: int, kept: Mapping[MaskName, NDArray[np.bool_]]) -> None:
    length = 0 if slot.mask is None else kept[slot.mask].shape[1]
    expected = (rows, *slot.of(length))
    shape = tuple(value.shape) if isinstance(value, Tensor) else (*value.shape, value.classes)
    if shape != expected:
        raise Uncacheable(f"`{slot.feature}` is {shape} for some rows, where {expected} was expected")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
