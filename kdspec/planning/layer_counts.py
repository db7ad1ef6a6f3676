"""Infers from a feature's field path whether it is a list of layers or one tensor, and the number of layers."""

from __future__ import annotations

from typing import Any

from kdspec.api.paths.field_path import FieldPath, parse

ATTENTION = frozenset({"attention", "attention_scores"})
"""The features that are one attention map per layer: probabilities, and the values before the softmax."""
_LISTS = frozenset(
    {
        "hidden_states",
        "encoder_hidden_states",
        "decoder_hidden_states",
        *(
            f"{of}{kind}"
            for of in ("", "encoder_", "decoder_", "cross_")
            for kind in ("attentions", "attention_scores")
        ),
    }
)
_TENSORS = frozenset({"last_hidden_state", "encoder_last_hidden_state", "logits", "pooler_output", "embedding"})


def is_layered(written: Any) -> bool | None:
    """Whether an adaptor's entry is a list of layers, by the output names of transformers; None for other names."""
    path = _path(written)
    if path is None or not path.attributes:
        return None
    name = path.attributes[-1]
    if name in _LISTS:
        return not isinstance(path.subscripts, int)
    return False if name in _TENSORS else None


def is_scores(written: Any) -> bool:
    """Whether an adaptor's entry has the values of attention before the softmax, which transformers does not return."""
    path = _path(written)
    return path is not None and any(name.endswith("attention_scores") for name in path.attributes)


def count(feature: str, written: Any, layers: int | None) -> int | None:
    """Number of layers of `hidden` or attention for a model with this many hidden layers; None if it is unknown."""
    path = _path(written)
    if layers is None or feature not in {"hidden", *ATTENTION} or path is None:
        return None
    whole = layers + 1 if feature == "hidden" else layers
    if isinstance(path.subscripts, slice):
        return len(range(whole)[path.subscripts])
    return whole if path.subscripts is None else None


def _path(written: Any) -> FieldPath | None:
    """The path of a feature that is one path in the model's output; None for others."""
    path = parse(written) if isinstance(written, str) else None
    return path if path is not None and path.root == "output" else None
