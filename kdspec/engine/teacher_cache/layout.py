"""The bytes of a sample: its slots one after another, each encoded by its codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.logits import Logits
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.codecs import Codec, dtype_of
from kdspec.engine.teacher_cache.samples import Counts
from kdspec.engine.teacher_cache.slots import MaskName, Slot, Uncacheable, of_row


class Layout:
    """The offsets of the slots of every sample.

    Args:
        slots: the stored tensors of a sample.
        counts: the number of tokens of each sample.
        codecs: how values are stored.
        samples: the number of samples.
    """

    def __init__(self, slots: Sequence[Slot], counts: Counts, codecs: CodecChoice, samples: int) -> None:
        self.slots = tuple(slots)
        self.codecs: tuple[Codec, ...] = tuple(codecs.codec(slot) for slot in slots)
        self.tokens: NDArray[np.int64] = np.stack(
            [np.zeros(samples, np.int64) if slot.mask is None else counts[slot.mask] for slot in self.slots], 1
        )
        """For each sample and slot the number of non-padding tokens: `(samples, slots)`."""
        ends = np.cumsum(self._sizes(), 1)
        self.starts: NDArray[np.int64] = np.concatenate([np.zeros((samples, 1), np.int64), ends[:, :-1]], 1)
        """The offset of each slot of a sample: `(samples, slots)`."""
        self.sizes: NDArray[np.int64] = ends[:, -1]
        """The bytes of each sample."""

    @property
    def bytes(self) -> int:
        """The bytes of all samples."""
        return int(self.sizes.sum())

    def mean(self) -> float:
        """The bytes of an average sample."""
        return self.bytes / len(self.sizes)

    def packed(
        self, sample: int, values: Sequence[Tensor | Logits], row: int, kept: Mapping[MaskName, NDArray[np.bool_]]
    ) -> bytearray:
        """The bytes of a sample.

        Args:
            sample: the number of the sample.
            values: the teacher's outputs for the rows of a batch, by slot, with padding.
            row: which of these rows it is.
            kept: which positions of the rows are not masked.

        Raises:
            Uncacheable: a codec cannot represent these numbers.
        """
        content = bytearray(int(self.sizes[sample]))
        for number, (slot, value) in enumerate(zip(self.slots, values, strict=True)):
            mask = None if slot.mask is None else kept[slot.mask][row]
            if mask is not None and mask.sum() != self.tokens[sample, number]:
                raise Uncacheable("its masks depend on the rows of a batch")
            chosen = of_row(slot, value, row, mask)
            if chosen.dtype != dtype_of(slot):
                raise Uncacheable(f"`{slot.feature}` is {chosen.dtype} for some rows, where {slot.dtype} was expected")
            data = self.codecs[number].encode(slot, chosen)
            start = int(self.starts[sample, number])
            content[start : start + len(data)] = data
        return content

    def _sizes(self) -> NDArray[np.int64]:
        """The bytes of each sample and slot."""
        sizes = np.zeros_like(self.tokens)
        for number, (slot, codec) in enumerate(zip(self.slots, self.codecs, strict=True)):
            tokens, which = np.unique(self.tokens[:, number], return_inverse=True)
            sizes[:, number] = np.array([codec.size(slot, int(count)) for count in tokens], np.int64)[which]
        return sizes
