"""Tiny seeded language models with a tokenizer, as teachers that answer prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny_families

LETTERS = tuple("ABCDEFGH")
VOCABULARY = (*tiny_families.WORDS, *LETTERS, *(f"{letter}." for letter in LETTERS))
TEXTS = ["w10 w11", "w12", "w13 w14 w15 w16", "w17 w18", "w12 w19", "w20 w21 w22", "w23", "w24 w25 w26"]
CHAT = "{% for each in messages %}w30 {{ each.content }} w31 {% endfor %}{% if add_generation_prompt %}w32{% endif %}"


def causal(family: str = "llama", *, seed: int = 0, vocabulary: int = len(VOCABULARY), **changes: Any) -> Any:
    """A language model whose answers differ from row to row."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = tiny_families.configuration(family, vocab_size=vocabulary, pad_token_id=0, **changes)
        made = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.05:
                parameter.mul_(10)
    return made


def language_model(folder: Path, family: str = "llama", *, chat: bool = False, **options: Any) -> Path:
    """The folder of such a model, with a tokenizer of words that begins each text with `<s>`."""
    causal(family, **options).save_pretrained(folder)
    tiny_families.tokenizer(folder, ends=False, begins=True, words=VOCABULARY)
    if chat:
        tiny_families.rewritten(folder / "tokenizer_config.json", chat_template=CHAT)
    return folder


def pieces(folder: Path) -> Any:
    """A tokenizer of bytes whose merges join a blank with the word behind it, as GPT-2's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = ["the sport is a sport", "the politics and the sports page", "answer: sport", "answer: politics"] * 9
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", model_input_names=["input_ids", "attention_mask"]
    )
    fast.save_pretrained(folder)
    return fast


def written(folder: Path, name: str, texts: list[str], labels: list[str] | None = None) -> None:
    """Rows as a CSV file."""
    lines = ["text", *texts] if labels is None else ["text,label", *map(",".join, zip(texts, labels, strict=True))]
    (folder / name).write_text("\n".join([*lines, ""]))
