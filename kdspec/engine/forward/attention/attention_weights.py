"""Attention weights of selected layers of a transformers model; its other layers use SDPA, which has none."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

CHOSEN = "kdspec_chosen"
"""The name under which transformers finds this attention implementation."""

_MARK = "_kdspec_weights"


def choose(module: nn.Module, names: Collection[str]) -> bool:
    """Make the attention modules of these names return their weights, and the others use SDPA.

    Returns False and changes nothing if all modules are chosen or the model's family does not dispatch its attention.
    """
    modules = dict(module.named_modules())
    chosen = [modules[name] for name in names]
    alike = [inner for inner in modules.values() if type(inner) in {type(each) for each in chosen}]
    config: Any = module.config
    # With this option GPT-2 calls its own attention function, without the dispatch.
    if len(alike) == len(chosen) or getattr(config, "reorder_and_upcast_attn", False):
        return False
    if not all(map(_dispatches, chosen)):
        return False
    _register()
    for inner in alike:
        setattr(inner, _MARK, inner in chosen)
    _switch(module, CHOSEN)
    return True


def release(module: nn.Module) -> None:
    """Make all layers return their weights again, if `choose` has changed them."""
    config: Any = getattr(module, "config", None)
    if getattr(config, "_attn_implementation", None) == CHOSEN:
        _switch(module, "eager")


def _switch(module: Any, implementation: str) -> None:
    module.set_attn_implementation(implementation)


def _dispatches(attention: nn.Module) -> bool:
    source = sys.modules[type(attention).__module__]
    return all(hasattr(source, name) for name in ("ALL_ATTENTION_FUNCTIONS", "eager_attention_forward"))


def _register() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(CHOSEN, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(CHOSEN, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Attention with transformers' signature, on `(batch, heads, length, width)`: the outputs, and the weights if chosen."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not getattr(module, _MARK, False):
        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return plain
    mask = attention_mask
    if mask is None and query.shape[2] > 1 and _is_causal(module, options):
        # Masks for SDPA are None for a purely causal mask, which SDPA gets as a flag; eager attention needs the mask.
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    if mask is not None and mask.dtype is torch.bool:
        # Eager attention adds its mask. The smallest finite value, not -inf: a fully masked row would be NaN.
        mask = torch.where(mask, 0.0, torch.finfo(query.dtype).min).to(query.dtype)
    eager = sys.modules[type(module).__module__].eager_attention_forward
    outputs: tuple[Tensor, Tensor] = eager(module, query, key, value, mask, **options)
    return outputs


def _is_causal(module: nn.Module, options: dict[str, Any]) -> bool:
    option = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if option is None else option)
