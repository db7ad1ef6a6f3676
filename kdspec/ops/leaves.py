"""The leaf tensors of a graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def leaves(value: Tensor) -> list[Tensor]:
    """The leaf tensors in which a backward pass from `value` would accumulate gradients."""
    waiting: list[Any] = [value.grad_fn]
    seen: set[Any] = set()
    found = []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found
