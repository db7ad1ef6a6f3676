"""The precision in which losses are computed: half types are widened, and autocast does not narrow them again."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """`tensor` as float32 if its type is narrower, else itself."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def full(tensor: Tensor) -> AbstractContextManager[None]:
    """A context in which products of matrices keep the type of `tensor`, under autocast too."""
    # autocast does not know the meta device, and nothing is computed there
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)
