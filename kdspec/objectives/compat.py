"""Presets of soft labels: the settings that give the numbers of another package for the same scores."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

Compat = Literal[
    "sentence_transformers.margin_mse", "sentence_transformers.distill_kl", "pylate", "colbert", "flag_embedding"
]

_KL = MappingProxyType({"loss": "kl", "temperature": 1.0})

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sentence_transformers.margin_mse": MappingProxyType({"loss": "margin_mse", "temperature": 1.0}),
        "sentence_transformers.distill_kl": _KL,
        "pylate": MappingProxyType({**_KL, "min_max": True}),
        "colbert": _KL,
        "flag_embedding": MappingProxyType({"loss": "ce", "temperature": {"student": 0.02, "teacher": 1.0}}),
    }
)
"""The settings of each preset, as a spec would write them."""


def contradicted(name: str, written: Mapping[str, Any]) -> str | None:
    """The first written setting that has another value in the preset; None if all agree."""
    preset = PRESETS.get(name, {})
    return next((key for key, value in preset.items() if key in written and _plain(written[key]) != value), None)


def _plain(value: Any) -> Any:
    """`{kl: {}}` and `{kl: null}` are `kl`; a side that is left out is 1."""
    if isinstance(value, Mapping) and len(value) == 1 and not next(iter(value.values())):
        return next(iter(value))
    if isinstance(value, Mapping) and value.keys() & {"student", "teacher"}:
        return {"student": 1.0, "teacher": 1.0, **value}
    return value
