"""The floating-point operations of an operation, by torch's own formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_aten = torch.ops.aten


def flops(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """The floating-point operations of a matrix product, a convolution or attention; 0 for anything else."""
    packet = func._overloadpacket  # noqa: SLF001 - the operation without its overload
    formula = flop_registry.get(packet)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=out))
    # torch's counter has no formula for the fused attention of the CPU.
    shapes = [arg.shape for arg in args if isinstance(arg, Tensor)]
    if packet is _aten._scaled_dot_product_flash_attention_for_cpu:  # noqa: SLF001 - the operation's name
        return int(sdpa_flop_count(*shapes[:3]))  # type: ignore[no-untyped-call]  # torch has not typed it
    if packet is _aten._scaled_dot_product_flash_attention_for_cpu_backward:  # noqa: SLF001 - as above
        return int(sdpa_backward_flop_count(*shapes[:4]))  # type: ignore[no-untyped-call]  # torch has not typed it
    return 0
