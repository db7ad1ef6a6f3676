"""Counts live bytes: storages are added when operations create them, and subtracted when they are freed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor


class LiveMemory:
    """The bytes of the counted tensors that are still alive; `peak` is the maximum since `mark`."""

    def __init__(self) -> None:
        self.bytes = 0
        self.peak = 0
        self._storages: dict[int, tuple[weakref.ref[Any] | None, int]] = {}

    def mark(self) -> None:
        """Start a new peak."""
        self.peak = self.bytes

    def count(self, tensor: Tensor) -> None:
        """Count the result of an operation, unless its storage is already counted."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the only identity of a storage
        if key in self._storages:
            return
        size = storage.nbytes()

        def gone(_: object, key: int = key) -> None:
            self.bytes -= self._storages.pop(key)[1]

        self._storages[key] = (weakref.ref(storage, gone), size)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Exclude tensors that existed before: an in-place operation on one of them returns it too."""
        self._storages |= {tensor.untyped_storage()._cdata: (None, 0) for tensor in tensors}  # noqa: SLF001 - as above


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors; shared storages count once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}  # noqa: SLF001 - as above
    return sum(storages.values())
