"""Modules on fake tensors that can change their type and device while they are built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def convertible(mode: FakeTensorMode) -> Iterator[None]:
    """Enter the mode; modules that are made in it can be converted, `module.double()`, as models of plugins are.

    `nn.Module.to` swaps the contents of fake parameters, and refuses those with a weak reference. The mode has one to every
    parameter, in its memo of the tensors that it has converted. Here the memo holds them themselves. Only while a module is
    built: kept for a training step, it would hold every activation.
    """
    converter = mode.fake_tensor_converter.meta_converter
    weak = converter.tensor_memo
    converter.tensor_memo = dict(weak)  # type: ignore[assignment]  # a mapping is all that torch needs of it
    try:
        with mode:
            yield
    finally:
        converter.tensor_memo = weak
