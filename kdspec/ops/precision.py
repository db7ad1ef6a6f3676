"""The precision of losses: half-precision tensors are widened, and autocast does not narrow them again."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """`tensor` as float32 if its type is narrower, else unchanged.

    Softmaxes, squares and sums of a loss need it: float16 overflows at 65,504, and bfloat16 has three digits.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def full(tensor: Tensor) -> AbstractContextManager[None]:
    """A context in which matrix products keep the type of `tensor`, also under autocast."""
    # Autocast does not support the meta device, where nothing is computed.
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)
