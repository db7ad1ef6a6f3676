"""The vectors of single tokens, from a model of texts: what a network with one vector a token begins with.

As Model2Vec makes them (https://github.com/MinishLab/model2vec): each token alone goes through the model, between the
special tokens of a row; principal components make the vectors narrower; and a frequent token counts less (Arora et al.
2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kdspec.diagnostics.fault import Fault
from kdspec.hf import heads

if TYPE_CHECKING:
    from torch import Tensor, nn

CODE = "KD503"
_ROWS = 1024
"""Tokens of one forward pass: short rows, so that they are many."""
_UNUSED = re.compile(r"[\[<]unused_?\d{1,6}[\]>]")


def real_tokens(tokenizer: Any, most: int | None = None) -> list[int]:
    """The ids of tokens that texts have, in their order: neither special ones nor `[unused...]`, and below `most`."""
    of_no_text, known = {*special(tokenizer)}, tokenizer.get_vocab().items()
    found = {number for token, number in known if number not in of_no_text and not _UNUSED.fullmatch(token)}
    return sorted(number for number in found if most is None or number < most)


def special(tokenizer: Any) -> list[int]:
    """The ids of special tokens, the unknown one among them."""
    found = {*tokenizer.all_special_ids, unknown(tokenizer)}
    found |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(number for number in found if number is not None)


def unknown(tokenizer: Any) -> int | None:
    """The id of the token in the place of those that the tokenizer does not know; None if it knows all."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if isinstance(number := model.get("unk_id"), int):  # of a unigram model
        return number
    token = model.get("unk_token")
    return None if token is None else tokenizer.get_vocab().get(token)


def rows_of_one(tokenizer: Any, tokens: Sequence[int]) -> list[list[int]]:
    """Rows of one token each, between the special tokens that the tokenizer puts around a text."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    starts = (place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    start = next(starts, 0)
    before, after = whole[:start], whole[start + len(bare) :]
    return [[*before, token, *after] for token in tokens]


def with_readout(module: nn.Module) -> nn.Module:
    """The model that makes the vectors of texts, of one with several heads: that of an embedding, else the first."""
    found = list(heads.parts(module).values())
    return next((model for model in found if heads.is_embedder(model)), found[0])


def embedded(module: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """The vectors of rows of equal length, (rows, width), float32 on the CPU: pooled, and not normalised.

    Raises:
        Fault: KD503 if the model has no embedding.
    """
    import torch

    found = []
    with torch.no_grad(), _evaluating(module):
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        for start in range(0, len(rows), _ROWS):
            ids = torch.tensor(rows[start : start + _ROWS], device=device)
            found.append(_pooled(module, ids).float().cpu())
    return torch.nan_to_num(torch.cat(found))


def principal(vectors: Tensor, width: int) -> Tensor:
    """The first principal components, (rows, width); a component is positive where it is largest.

    Raises:
        ValueError: there are not more rows than `width`, or they are narrower.
    """
    import torch

    rows, given = vectors.shape
    if not width <= given or not width < rows:
        message = f"{rows:,} vectors of width {given} have no {width} principal components"
        raise ValueError(message)
    centred = vectors.double() - vectors.double().mean(0)
    # In ascending order; the sign of an eigenvector is arbitrary.
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :width]
    scores = centred @ directions
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    found: Tensor = (scores * torch.where(largest < 0, -1.0, 1.0)).to(vectors.dtype)
    return found


def frequency_weights(tokens: int, coefficient: float | None) -> Tensor:
    """The weight a/(a + p) of each token by its rank, where p is its share by Zipf's law, 1/(rank + 2); 1 without a coefficient."""
    import torch

    if coefficient is None:
        return torch.ones(tokens)
    shares = 1 / torch.arange(2, tokens + 2, dtype=torch.float64)
    return (coefficient / (coefficient + shares / shares.sum())).float()


def _pooled(module: Any, ids: Tensor) -> Tensor:
    import torch
    from transformers import PreTrainedModel

    mask = torch.ones_like(ids)
    if heads.is_embedder(module):
        # Not normalised: how far vectors are from the mean is what the components are of.
        return module.vectors(module.body(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
    if isinstance(module, PreTrainedModel):
        body = module.get_encoder() if module.config.is_encoder_decoder else module.base_model
        states: Tensor = body(input_ids=ids, attention_mask=mask).last_hidden_state
        return states.float().mean(1)
    found: Tensor | None = module(input_ids=ids, attention_mask=mask).get("embedding")
    if found is None:
        raise Fault(CODE, "it has no embedding, from which a token could have its vector", ("like",))
    return found


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Turn dropout off; each part is afterwards as it was."""
    trains = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in trains:
            part.training = True
