"""A tiny transformers model with a tokenizer, for tests."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

MAX_LENGTH = 64
PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = string.ascii_lowercase + string.digits
PIECES = (*SPECIAL, *LETTERS, *string.punctuation, *(f"##{letter}" for letter in LETTERS))


def tiny(
    folder: str | Path,
    *,
    family: str = "bert",
    layers: int = 2,
    width: int = 16,
    heads: int = 2,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save in `folder` a small transformers model with seeded weights, and a tokenizer for all ASCII text.

    Args:
        folder: where `from_pretrained` can load it.
        family: a `model_type` of transformers with an encoder or decoder of equal layers, such as `bert`.
        layers: number of hidden layers.
        width: width of the hidden states, a multiple of `heads`.
        heads: attention heads per layer.
        seed: the seed of the weights; the caller's random state is unchanged.
        config: other entries of the model's configuration, such as `hidden_dropout_prob=0.0`.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    options = {
        "vocab_size": len(PIECES),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * width,
        # Some families count positions from the padding's index + 1.
        "max_position_embeddings": MAX_LENGTH + 2,
        "pad_token_id": PIECES.index(PAD),
        "bos_token_id": PIECES.index(CLS),
        "eos_token_id": PIECES.index(SEP),
    }
    made = AutoConfig.for_model(family, **options | config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(made)
    model.save_pretrained(folder)
    _tokenizer(types=getattr(made, "type_vocab_size", 0) > 1).save_pretrained(folder)
    return Path(folder)


def _tokenizer(*, types: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(piece, PIECES.index(piece)) for piece in (CLS, SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", *(["token_type_ids"] if types else []), "attention_mask"],
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
    )
