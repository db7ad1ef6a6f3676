"""Tiny models of any family of transformers, and a tokenizer of words for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(92)))
SIZES = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 32, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
    "n_layer": 2, "n_head": 2, "n_embd": 16, "n_inner": 32, "n_positions": 64, "dim": 16, "n_layers": 2, "n_heads": 2,
    "hidden_dim": 32, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "ffn_dim": 32, "word_embed_proj_dim": 16,
    "num_layers": 2, "num_decoder_layers": 2, "d_ff": 32, "d_kv": 8, "num_heads": 2, "d_inner": 32, "d_head": 8,
    "embedding_size": 16, "emb_dim": 16, "num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1,
    "moe_intermediate_size": 16, "moe_layers": [], "bottleneck_size": 8, "true_hidden_size": 16, "intra_bottleneck_size": 16,
    "q_groups": 2, "k_groups": 2, "v_groups": 2, "post_attention_groups": 1, "intermediate_groups": 2, "output_groups": 2,
    "classifier_dropout": 0.0,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gptj": {"rotary_dim": 4},
    "xmod": {"languages": ["en"], "default_language": "en"},
    "t5": {"decoder_start_token_id": 0}, "mt5": {"decoder_start_token_id": 0}, "umt5": {"decoder_start_token_id": 0},
    "reformer": {
        "axial_pos_embds": False, "attn_layers": ["local", "lsh"], "attention_head_size": 8, "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8, "feed_forward_size": 32,
    },
    "lilt": {"hidden_size": 48, "num_attention_heads": 2, "channel_shrink_ratio": 4, "max_2d_position_embeddings": 8},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "funnel": {"block_sizes": [2, 2], "num_decoder_layers": 1},
    "longformer": {"attention_window": [4, 4]},
    "convbert": {"embedding_size": 16, "conv_kernel_size": 3},
}  # fmt: skip
"""What some families need besides."""


def configuration(family: str, **changes: Any) -> Any:
    """The configuration of a tiny model."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(family)
    aliases, names = default.attribute_map, {*default.to_dict(), *default.attribute_map}
    # Of a name and its alias one is enough.
    given = {key: value for key, value in SIZES.items() if key in names and aliases.get(key) not in names}
    if "layer_types" in names:
        given["layer_types"] = None
    return type(default)(**{**given, **OWN.get(family, {}), **changes})


def classifier(family: str, folder: Path, *, seed: int = 0, **changes: Any) -> Any:
    """A classifier of two classes, saved in a folder; its weights are large enough for rows to differ."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoModelForSequenceClassification.from_config(configuration(family, num_labels=2, **changes)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.05:
                parameter.mul_(5)
    made.save_pretrained(folder)
    return made


def tokenizer(
    folder: Path, *, ends: bool = True, begins: bool = False, words: tuple[str, ...] = WORDS, **entries: Any
) -> Any:
    """A tokenizer of whole words, saved in a folder; `ends` is whether rows end with `</s>`.

    `entries` go into `tokenizer_config.json`; None removes one.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Replace("\u200b", " ")  # as many do with spaces of no width
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends or begins:
        marks = (("<s> " if begins else ""), (" </s>" if ends else ""))
        made.post_processor = processors.TemplateProcessing(
            single=f"{marks[0]}$A{marks[1]}", pair=f"{marks[0]}$A{marks[1]} $B{marks[1]}",
            special_tokens=[("<s>", 1), ("</s>", 2)],
        )  # fmt: skip
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **entries}
    given = {key: value for key, value in special.items() if value is not None}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **given
    )  # fmt: skip
    fast.save_pretrained(folder)
    return fast


def rewritten(file: Path, **entries: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    known = {**json.loads(file.read_text(encoding="utf-8")), **entries}
    file.write_text(json.dumps({key: value for key, value in known.items() if value is not None}), encoding="utf-8")
