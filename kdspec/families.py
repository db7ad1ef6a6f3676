"""What the configuration of a transformers model says about its shape, read without importing transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdspec.context import ModelFacts

LAYER_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTH_NAMES = ("hidden_size", "n_embd", "d_model", "dim")
HEAD_NAMES = ("num_attention_heads", "n_head", "n_heads", "num_heads")

# Layers, width and heads of a configuration that does not say: files of older versions leave out what is the default.
DEFAULTS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "albert": (12, 4096, 64),
        "bert": (12, 768, 12),
        "camembert": (12, 768, 12),
        "deberta-v2": (24, 1536, 24),
        "distilbert": (6, 768, 12),
        "electra": (12, 256, 4),
        "ernie": (12, 768, 12),
        "gpt2": (12, 768, 12),
        "llama": (32, 4096, 32),
        "mobilebert": (24, 512, 4),
        "modernbert": (22, 768, 12),
        "mpnet": (12, 768, 12),
        "qwen2": (32, 4096, 32),
        "qwen3": (32, 4096, 32),
        "roberta": (12, 768, 12),
        "t5": (6, 512, 8),
        "xlm-roberta": (12, 768, 12),
    }
)


def facts(configuration: Mapping[str, Any]) -> ModelFacts:
    """The facts of a complete configuration; None for what it leaves open or where it makes no sense."""
    family = configuration.get("model_type")
    family = family if isinstance(family, str) else None
    layers, width, heads = DEFAULTS.get(family or "", (None, None, None))
    return changed(ModelFacts(layers=layers, width=width, heads=heads, family=family), configuration)


def changed(before: ModelFacts, changes: Mapping[str, Any]) -> ModelFacts:
    """The facts after some entries of the configuration have been replaced."""
    return ModelFacts(
        layers=_number(changes, LAYER_NAMES, before.layers),
        width=_number(changes, WIDTH_NAMES, before.width),
        heads=_number(changes, HEAD_NAMES, before.heads),
        family=before.family,
    )


def read(file: Path) -> Mapping[str, Any]:
    """The configuration in a `config.json`, empty where there is none that can be read."""
    try:
        configuration = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return configuration if isinstance(configuration, dict) else {}


def _number(configuration: Mapping[str, Any], names: tuple[str, ...], otherwise: int | None) -> int | None:
    for name in names:
        if name in configuration:
            value = configuration[name]
            return value if type(value) is int and value > 0 else None
    return otherwise
