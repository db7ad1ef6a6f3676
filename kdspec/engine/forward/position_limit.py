"""Rows with more tokens than a model has positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kdspec.api.spec.spec import Spec
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.hf.positions import positions as configured

_TABLES = ("position_embeddings", "wpe", "embed_positions", "embed_position")


def positions(module: nn.Module) -> int | None:
    """The maximum length of a row for a model with position embeddings; None for a model without."""
    if (config := getattr(module, "config", None)) is not None and (most := configured(config)) is not None:
        return most
    tables = [
        inner.num_embeddings - (0 if inner.padding_idx is None else inner.padding_idx + 1)
        for name, inner in module.named_modules()
        if isinstance(inner, nn.Embedding) and name.rpartition(".")[2] in _TABLES
    ]
    return min(tables, default=None)


def too_long(spec: Spec, name: str, task: str, module: nn.Module, inputs: Mapping[str, Any]) -> FindingError | None:
    """KD405 if a model has raised an error and its rows are too long for it; otherwise None.

    Args:
        spec: the spec.
        name: the model's name.
        task: the task of the rows.
        module: the model.
        inputs: its inputs; those of a field with a name in a mapping of their own.
    """
    fields = (inputs, *(field for field in inputs.values() if isinstance(field, Mapping)))
    tokens = [field["input_ids"] for field in fields if "input_ids" in field]
    length, most = max((each.shape[1] for each in tokens if each.dim() == 2), default=0), positions(module)
    if most is None or length <= most:
        return None
    message = f"a row has {length} tokens, and model `{name}` has {most} positions"
    at, limit = ("tasks", task, spec.tasks[task].name), spec.tasks[task].length_limit
    if limit is None:
        return FindingError(Finding("KD405", message, at))
    help_ = f"set `{limit}: {most}`; longer rows are truncated"
    return FindingError(Finding("KD405", message, (*at, limit), help=help_))
