"""Tiny seeded models and tokenizers, made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["a", "b", "c", "d", "e", "f", "g", "good", "bad", "film", "plot", "the", "was", "very", "dull", "nice"],
]


def _tokenizer(folder: Path, *, pad: bool = True) -> Path:
    """A tokenizer that knows `WORDS`, with BERT's special tokens and token types; `pad=False` is as GPT-2 has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if pad:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        names = ["input_ids", "token_type_ids", "attention_mask"]
    else:
        special, names = {"eos_token": "[SEP]"}, ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", model_input_names=names, model_max_length=64, **special
    ).save_pretrained(str(folder))
    return folder


def _model(folder: Path, family: str = "bert", auto: str = "AutoModel", **changes) -> Path:
    """A model's folder: four layers of width 8."""
    import torch
    import transformers

    sizes = {
        "num_hidden_layers": 4,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "vocab_size": len(WORDS),
        "intermediate_size": 16,
    }
    config = transformers.AutoConfig.for_model(family, **{**sizes, **changes})
    torch.manual_seed(0)
    getattr(transformers, auto).from_config(config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def new_model(tmp_path):
    """Makes a model's folder below the test's own, and says where."""
    return lambda name="model", *args, **changes: _model(tmp_path / name, *args, **changes)


@pytest.fixture
def new_tokenizer(tmp_path):
    """Makes a tokenizer's folder below the test's own, and says where."""
    return lambda name="tokenizer", **options: _tokenizer(tmp_path / name, **options)


@pytest.fixture
def tiny(new_model, new_tokenizer) -> Path:
    """A BERT without a head, and its tokenizer."""
    new_model("tiny")
    return new_tokenizer("tiny")
