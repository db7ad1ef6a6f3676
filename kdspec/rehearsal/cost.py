"""What a step costs: floating-point operations, by torch's own counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_aten = torch.ops.aten


def counter() -> FlopCounterMode:
    """Counts matrix products, convolutions and attention: on the CPU too, whose fused attention torch leaves out."""
    forward = _aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - the operation's name
    backward = _aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001 - as above
    return FlopCounterMode(display=False, custom_mapping={forward: _attention, backward: _attention_backward})


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


def _attention_backward(
    grad: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    count: int = sdpa_backward_flop_count(grad, query, key, value)  # type: ignore[no-untyped-call]
    return count
