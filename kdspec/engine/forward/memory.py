"""How many bytes are alive: a count of every storage that operations make, down when the last tensor of it is gone."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor


class LiveMemory:
    """The bytes of the tensors that have been counted and are still there; `peak` is the most at once since `mark`."""

    def __init__(self) -> None:
        self.bytes = 0
        self.peak = 0
        self._storages: dict[int, tuple[weakref.ref[Any] | None, int]] = {}

    def mark(self) -> None:
        """Begin a new peak."""
        self.peak = self.bytes

    def count(self, tensor: Tensor) -> None:
        """Count what an operation has returned, unless it is another view of what is counted already."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the only identity that a storage has
        if key in self._storages:
            return
        size = storage.nbytes()

        def gone(_: object, key: int = key) -> None:
            self.bytes -= self._storages.pop(key)[1]

        self._storages[key] = (weakref.ref(storage, gone), size)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Never count these, which were made before and outlive it: an operation that changes one returns it too."""
        self._storages |= {tensor.untyped_storage()._cdata: (None, 0) for tensor in tensors}  # noqa: SLF001 - as above


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors, a storage that several share once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}  # noqa: SLF001 - as above
    return sum(storages.values())
