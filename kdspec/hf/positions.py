"""How many tokens a row may have for a transformers model, by its configuration."""

from __future__ import annotations

from typing import Any

from kdspec.hf.padding import COUNTED

EXACT = frozenset(
    """
    albert bart bert big_bird bigbird_pegasus biogpt canine convbert ctrl deberta deberta-v2 distilbert electra ernie
    flaubert fnet gpt-sw3 gpt2 gpt_bigcode gpt_neo gptj layoutlm mbart megatron-bert mobilebert mra mvp nystromformer
    openai-gpt opt plbart reformer rembert roc_bert roformer squeezebert xlm yoso
    """.split()  # noqa: SIM905 - a list of one a line is no better to read
)
"""Families with as many positions as the configuration says. Tables of BART and OPT have two entries more."""


def positions(config: Any) -> int | None:
    """The maximum number of tokens of a row; None if there is none, or the family is not known.

    Relative and rotary positions have no limit: the configuration's number is what a model was trained with.
    """
    family = config.model_type
    if family not in EXACT | COUNTED or not config.to_dict().get("position_biased_input", True):
        return None
    most: int | None = getattr(config, "max_position_embeddings", None)
    if family in EXACT or most is None:
        return most
    if config.to_dict().get("position_embedding_type") == "rotary":
        return None
    # The first position is that of the padding id + 1; MPNet has the padding id 1, whatever its configuration says.
    padding = 1 if family == "mpnet" else config.pad_token_id
    return most if padding is None else most - padding - 1
