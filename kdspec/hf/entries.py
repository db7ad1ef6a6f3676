"""Entries of the configurations of common families: which of them a family has, and in which range their values are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from kdspec.api.spec.bounds import LONGEST_ROW, MOST_LAYERS
from kdspec.diagnostics.diagnostic import closest, excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.hf.families import HEAD_NAMES, LAYER_NAMES, OTHER_SIZES, WIDTH_NAMES

_SHAPE = frozenset({"hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"})
_ENCODER = _SHAPE | {
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
}
_BERT = _ENCODER | {"classifier_dropout", "type_vocab_size"}
_DECODER = _SHAPE | {
    "attention_dropout",
    "head_dim",
    "hidden_act",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_key_value_heads",
}

ENTRIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "albert": _ENCODER | {"classifier_dropout_prob", "embedding_size", "type_vocab_size"},
        "bert": _BERT,
        "camembert": _BERT,
        "deberta-v2": _ENCODER | {"pooler_dropout", "type_vocab_size"},
        "distilbert": _SHAPE
        | {"activation", "attention_dropout", "dim", "dropout", "hidden_dim", "initializer_range"}
        | {"max_position_embeddings", "n_heads", "n_layers", "qa_dropout", "seq_classif_dropout"},
        "electra": _BERT | {"embedding_size"},
        "ernie": _BERT,
        "gpt2": _SHAPE
        | {"activation_function", "attn_pdrop", "embd_pdrop", "initializer_range", "layer_norm_epsilon"}
        | {"max_position_embeddings", "n_embd", "n_head", "n_inner", "n_layer", "n_positions", "resid_pdrop"},
        "llama": _DECODER,
        "mobilebert": _BERT | {"embedding_size"},
        "modernbert": _SHAPE
        | {"attention_dropout", "classifier_dropout", "embedding_dropout", "hidden_activation", "initializer_range"}
        | {"intermediate_size", "max_position_embeddings", "mlp_dropout", "norm_eps"},
        "mpnet": _ENCODER,
        "qwen2": _DECODER - {"head_dim"},
        "qwen3": _DECODER,
        "roberta": _BERT,
        "t5": _SHAPE
        | {"classifier_dropout", "d_ff", "d_kv", "d_model", "dense_act_fn", "dropout_rate", "head_dim"}
        | {"layer_norm_epsilon", "num_heads", "num_layers"},
        "xlm-roberta": _BERT,
    }
)
"""For each family its entries of shape, dropout, activation and normalization, other names of them included."""

_LARGEST = 10**12
"""Of any number in a configuration: the largest ones are bases of rotary embeddings."""
_LARGEST_EPSILON = 100
SIZES = frozenset((*LAYER_NAMES, *WIDTH_NAMES, *HEAD_NAMES, *OTHER_SIZES))
"""Entries that are sizes, in any family."""
_ALL = frozenset().union(*ENTRIES.values())
_SAME = (LAYER_NAMES, WIDTH_NAMES, HEAD_NAMES)


def not_of_the_family(family: str | None, changes: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of entries that other families have and this one has not; none for a family that is not listed."""
    own = ENTRIES.get(family or "")
    if own is None:
        return
    for key in changes:
        if key in own or key not in _ALL:
            continue
        near = of_the_family(family, key) or closest(key, sorted(own))
        help_, fix = (f"did you mean `{near}`?", (key, near)) if near else (None, None)
        yield Fault("KD101", f"a {family} configuration has no `{key}`", (key,), help=help_, key=True, fix=fix)


def of_the_family(family: str | None, key: str) -> str | None:
    """What a family calls its number of layers, its width or its number of heads, if `key` is a name of it elsewhere."""
    own = ENTRIES.get(family or "", frozenset())
    same = next((names for names in _SAME if key in names), ())
    return next((name for name in same if name in own), None)


def not_a_size(key: str, value: Any) -> Iterator[Fault]:
    """The fault of an entry that should be the size of something and is not."""
    if value is None:
        return  # the library's default
    if type(value) is not int:
        shown = f"the string `{excerpt(value)}`" if isinstance(value, str) else f"`{excerpt(str(value).lower())}`"
        yield Fault("KD103", f"expected an integer, not {shown}", (key,))
    elif value <= 0:
        yield Fault("KD104", f"`{value}` must be greater than 0", (key,))
    elif value > (most := MOST_LAYERS if key in LAYER_NAMES else LONGEST_ROW):
        yield Fault("KD104", f"`{value}` must be at most {most:,}", (key,))


def out_of_range(changes: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of dropout rates that are no probabilities, and of other numbers that are not positive."""
    for key, value in changes.items():
        if key in _ALL and ("dropout" in key or key.endswith("_pdrop")):
            if value is not None and not _is_number(value):
                yield Fault("KD103", f"expected a number, not {_shown(value)}", (key,))
            elif value is not None and not 0 <= value <= 1:
                yield Fault("KD104", f"`{value}` is not a probability, from 0 to 1", (key,))
        elif key.endswith(("_eps", "_epsilon")) and key in _ALL:
            if not _is_number(value):
                yield Fault("KD103", f"expected a number, not {_shown(value)}", (key,))
            elif not value > 0:
                yield Fault("KD104", f"`{value}` must be greater than 0", (key,))
            elif value > _LARGEST_EPSILON:
                yield Fault("KD104", f"`{value}` must be at most {_LARGEST_EPSILON}", (key,))
        elif _is_number(value) and not abs(value) <= _LARGEST:
            yield Fault("KD104", f"`{value}` must be at most {_LARGEST:,}", (key,))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return f"the string `{value}`" if isinstance(value, str) else f"`{str(value).lower()}`"
