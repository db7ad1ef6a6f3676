"""Weight decay without biases and norms: the parameters that it leaves out, and the groups that do so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

_NORM = re.compile(r"norm(\d+d)?$", re.IGNORECASE)
"""The names of classes such as `LayerNorm`, `T5LayerNorm`, `LlamaRMSNorm` and `BatchNorm1d`."""
_MATRIX = 2


def undecayed(module: nn.Module) -> frozenset[int]:
    """The ids of the parameters that are biases or belong to norms.

    These are all vectors and scalars, the parameters of modules whose class is a norm, and parameters with `bias` in their
    name or in that of their module (the relative position biases of T5, the `r_w_bias` of XLNet).
    """
    found = set()
    for place, part in module.named_modules(remove_duplicate=False):
        is_norm = _NORM.search(type(part).__name__) is not None
        inside = place.rpartition(".")[2]
        for name, parameter in part.named_parameters(recurse=False):
            if is_norm or parameter.ndim < _MATRIX or "bias" in f"{inside}.{name}".lower():
                found.add(id(parameter))
    return frozenset(found)


def split_groups(
    groups: Iterable[Mapping[str, Any]], left_out: frozenset[int], splits: Callable[[Mapping[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Optimizer groups in which biases and norms have `weight_decay: 0`.

    Args:
        groups: parameter groups, each with a `name`.
        left_out: the ids of biases and norms.
        splits: whether a group with these options is split.

    Returns:
        The groups in their order. One that is split becomes two of the same name, first that with weight decay; the
        parameters of each keep their order.
    """
    found = []
    for group in groups:
        params = group["params"]
        decays = [p for p in params if id(p) not in left_out]
        options = {key: value for key, value in group.items() if key not in ("name", "params")}
        if len(decays) == len(params) or not splits(options):
            found.append(dict(group))
            continue
        if decays:
            found.append({**group, "params": decays})
        found.append({**group, "params": [p for p in params if id(p) in left_out], "weight_decay": 0.0})
    return found
