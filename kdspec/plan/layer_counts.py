"""Whether a feature is a list of layers or one tensor, and how many layers it has, by its field path."""

from __future__ import annotations

from typing import Any

from kdspec.api.field_path import FieldPath, parse

_LISTS = frozenset(
    {
        "hidden_states",
        "attentions",
        "encoder_hidden_states",
        "encoder_attentions",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
    }
)
_TENSORS = frozenset({"last_hidden_state", "encoder_last_hidden_state", "logits", "pooler_output"})


def is_layered(written: Any) -> bool | None:
    """Whether an adaptor's entry is a list of layers, by the names that transformers gives; None where they tell not."""
    path = _path(written)
    if path is None or not path.attributes:
        return None
    name = path.attributes[-1]
    if name in _LISTS:
        return not isinstance(path.subscripts, int)
    return False if name in _TENSORS else None


def count(feature: str, written: Any, layers: int | None) -> int | None:
    """How many layers `hidden` or `attention` has, of a model with so many hidden layers; None where that is unknown."""
    path = _path(written)
    if layers is None or feature not in ("hidden", "attention") or path is None:
        return None
    whole = layers + 1 if feature == "hidden" else layers
    if isinstance(path.subscripts, slice):
        return len(range(whole)[path.subscripts])
    return whole if path.subscripts is None else None


def _path(written: Any) -> FieldPath | None:
    """The path of a feature with one head in the model's output."""
    path = parse(written) if isinstance(written, str) else None
    return path if path is not None and path.root == "output" else None
