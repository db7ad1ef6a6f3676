"""A transformers configuration: changed by a spec, and fitted to a task and a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from kdspec.context import Head
from kdspec.diagnostics import closest
from kdspec.fault import Fault

_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads")
_FROM_THE_TASK = ("num_labels", "id2label", "label2id", "problem_type")
_OWN_KEYS = MappingProxyType({"dtype": "dtype", "torch_dtype": "dtype", "attn_implementation": "attention"})

_CODE = "KD503"


def named(known: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes under the names of this family, all of which it must have: transformers takes any name in silence."""
    aliases = dict(known.attribute_map)
    names = {*known.to_dict(), *aliases, *(field.name for field in fields(known))}
    for key in changes:
        at = ("config", key)
        if key in _FROM_THE_TASK:
            raise Fault(_CODE, f"`{key}` comes from the task", at, help="remove it here")
        if key in _OWN_KEYS:
            raise Fault(
                _CODE,
                f"`{key}` is not part of a configuration",
                at,
                help=f"write `{_OWN_KEYS[key]}` beside `config`",
            )
        if key not in names:
            near = closest(key, sorted(names))
            message = f"a {known.model_type} configuration has no `{key}`"
            raise Fault(_CODE, message, at, help=f"did you mean `{near}`?" if near else None)
    return {aliases.get(key, key): value for key, value in changes.items()}


def stale(known: Any, changes: Mapping[str, Any]) -> list[str]:
    """Entries of a configuration that follow from what the changes replace, or that go with the weights."""
    layers, width, heads = (known.attribute_map.get(key, key) for key in _SHAPE)
    names = ["quantization_config"]
    if layers in changes:
        names.append("layer_types")
    of_head = getattr(known, "head_dim", None)
    derived = of_head is not None and of_head == known.hidden_size // known.num_attention_heads
    if derived and (width in changes or heads in changes):
        names.append("head_dim")
    return names


def fit(config: Any, head: Head, tokenizer: Any | None) -> None:
    """Fit a configuration to the labels and the tokenizer."""
    if head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: number for number, label in enumerate(head.labels)}
    if head.task == "sequence_classification":
        config.problem_type = "single_label_classification"
    if tokenizer is None:
        return
    if config.pad_token_id is None:  # a decoder's head needs it to find the last token of a row
        config.pad_token_id = tokenizer.pad_token_id
    if getattr(config, "vocab_size", len(tokenizer)) < len(tokenizer):
        raise Fault(
            _CODE,
            f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}",
            help=f"write `config: {{vocab_size: {len(tokenizer)}}}`",
        )
