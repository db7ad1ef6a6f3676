"""The shape of a transformers model, from its configuration, without importing transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdspec.api.kinds.model import ModelFacts
from kdspec.api.spec.model_folders import read_json

LAYER_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTH_NAMES = ("hidden_size", "n_embd", "d_model", "dim")
HEAD_NAMES = ("num_attention_heads", "n_head", "n_heads", "num_heads")

OTHER_SIZES = ("intermediate_size", "vocab_size", "max_position_embeddings", "embedding_size", "head_dim", "d_ff")
EVEN_HEADS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "gpt2",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    }
)
"""Families that split the width into heads, so that it must be a multiple of their number."""

ROWWISE = frozenset(
    """
    albert bart bert big_bird biogpt bloom camembert ctrl data2vec-text deberta deberta-v2 distilbert electra ernie esm
    eurobert exaone4 falcon flaubert gemma gemma2 gemma3_text glm glm4 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox gptj helium
    ibert layoutlm lilt llama longformer luke markuplm mbart megatron-bert mistral mixtral mobilebert modernbert mpnet mpt
    mra mt5 nemotron nomic_bert olmo olmo2 openai-gpt opt persimmon phi phi3 plbart qwen2 qwen3 rembert roberta
    roberta-prelayernorm roformer smollm3 squeezebert stablelm starcoder2 t5 umt5 xlm xlm-roberta xlm-roberta-xl xlnet xmod
    """.split()  # noqa: SIM905 - a list of a hundred lines is no better to read
)
"""Families whose outputs for a row do not depend on the rows beside it, by a test: `tests/properties/test_rows_alone.py`.

Measured for others, with random weights: padding changes logits by 0.67 of their size in FNet, which has no mask, 0.33 in
Reformer, 0.24 in YOSO, 0.15 in Nystromformer, 0.09 in Funnel and CANINE, and 0.01 in ConvBERT. Of families that are in
neither list nothing is known.
"""


def rowwise(family: str) -> bool:
    """Whether a row's outputs are known to depend on no other row."""
    return family in ROWWISE


# Entries of some family: a name that is close to another entry is not a misspelling if it is one of these.
ATTRIBUTES = frozenset(
    """
    activation activation_function attention_bias attention_dropout attention_probs_dropout_prob attn_pdrop bos_token_id
    chunk_size_feed_forward classifier_activation classifier_bias classifier_dropout classifier_dropout_prob
    classifier_pooling cls_token_id decoder_bias dense_act_fn dropout dropout_rate embd_pdrop embedding_dropout
    eos_token_id feed_forward_proj hidden_act hidden_activation hidden_dim hidden_dropout hidden_dropout_prob
    hidden_sizes initializer_factor initializer_range inner_group_num intra_bottleneck_size is_decoder
    is_encoder_decoder is_gated_act layer_norm_eps layer_norm_epsilon layer_types max_relative_positions
    max_window_layers mlp_bias mlp_dropout model_type n_inner n_positions norm_bias norm_eps normalization_type
    num_decoder_layers num_encoder_layers num_feedforward_networks num_hidden_groups num_key_value_heads
    num_local_experts num_experts num_experts_per_tok output_attentions output_hidden_states pad_token_id
    pooler_dropout pooler_hidden_act pooler_hidden_size pos_att_type position_biased_input position_embedding_type
    pretraining_tp qa_dropout relative_attention relative_attention_max_distance relative_attention_num_buckets
    resid_pdrop rms_norm_eps rope_parameters rope_scaling rope_theta scale_attn_weights sep_token_id
    seq_classif_dropout sinusoidal_pos_embds sliding_window summary_activation summary_type summary_use_proj
    tie_word_embeddings true_hidden_size type_vocab_size use_bottleneck use_cache use_sliding_window
    """.split()  # noqa: SIM905 - a list of a hundred lines is no better to read
)

# Default layers, width and heads: files of older versions omit entries with default values.
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
    """The facts of a complete configuration; None for missing or invalid entries."""
    family = configuration.get("model_type")
    family = family if isinstance(family, str) else None
    layers, width, heads = DEFAULTS.get(family or "", (None, None, None))
    known = ModelFacts(
        layers=layers,
        width=width,
        heads=heads,
        family=family,
        classes=_classes(configuration),
        labels=_labels(configuration),
        problem=_problem(configuration),
        architecture=_architecture(configuration),
        scope=None if family is None or rowwise(family) else "micro_batch",
    )
    return changed(known, configuration)


def changed(before: ModelFacts, changes: Mapping[str, Any]) -> ModelFacts:
    """The facts after some entries of the configuration have been replaced."""
    return ModelFacts(
        layers=_number(changes, LAYER_NAMES, before.layers),
        width=_number(changes, WIDTH_NAMES, before.width),
        embedding=before.embedding,
        heads=_number(changes, HEAD_NAMES, before.heads),
        family=before.family,
        classes=before.classes,
        labels=before.labels,
        by_name=before.by_name,
        merges=before.merges,
        problem=before.problem,
        architecture=before.architecture,
        vocabulary=_number(changes, ("vocab_size",), before.vocabulary),
        scope=before.scope,
    )


def _architecture(configuration: Mapping[str, Any]) -> str | None:
    names = configuration.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def _labels(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    """Label names, unless they are the library's default ones: `LABEL_0`, `LABEL_1` and so on."""
    names = configuration.get("id2label")
    if _classes(configuration) is None or not isinstance(names, dict):
        return ()
    ordered = tuple(names.get(str(number)) for number in range(len(names)))
    chosen = ordered != tuple(f"LABEL_{number}" for number in range(len(names)))
    return tuple(map(str, ordered)) if chosen and None not in ordered else ()


def _classes(configuration: Mapping[str, Any]) -> int | None:
    """The number of classes of a classifier's head, by default two."""
    architectures = configuration.get("architectures")
    if not isinstance(architectures, list) or not any("Classification" in str(name) for name in architectures):
        return None
    labels, number = configuration.get("id2label"), configuration.get("num_labels")
    if isinstance(labels, dict) and labels:
        return len(labels)
    return number if type(number) is int and number > 0 else 2


def _problem(configuration: Mapping[str, Any]) -> str | None:
    problem = configuration.get("problem_type")
    return problem if isinstance(problem, str) and _classes(configuration) is not None else None


def _number(configuration: Mapping[str, Any], names: tuple[str, ...], otherwise: int | None) -> int | None:
    for name in names:
        if name in configuration:
            value = configuration[name]
            return value if type(value) is int and value > 0 else None
    return otherwise


def written(path: str | None, revision: str | None, folder: Path | None) -> Mapping[str, Any]:
    """The configuration in a model's folder, or in the download cache for a hub model; empty if there is none."""
    if folder is not None:
        return read_json(folder / "config.json")
    if path is None:
        return {}
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(path, "config.json", revision=revision)
    except ValueError:  # not a name that the hub allows
        return {}
    return read_json(Path(file)) if isinstance(file, str) else {}


def written_at(place: Path | str, revision: str | None) -> Mapping[str, Any]:
    """The configuration in a folder, or that of a name on the hub."""
    return written(str(place), revision, place if isinstance(place, Path) else None)
