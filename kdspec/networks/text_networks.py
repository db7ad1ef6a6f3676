"""Small networks on token ids that are not transformers: a bidirectional GRU and a convolutional network.

Both return a mapping with `logits` and `hidden_states`, the embeddings first. Their outputs do not depend on padding, left
or right. `load` reads one from the folder of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn import functional

from kdspec.networks import static_files
from kdspec.networks.static_embeddings import StaticEmbeddings
from kdspec.source import read_back

CONFIGURATION = "config.json"
WEIGHTS = "model.safetensors"


class Direction(nn.Module):
    """A GRU over the non-padding tokens of each row, forwards or backwards."""

    def __init__(self, width: int, hidden: int, *, backward: bool) -> None:
        super().__init__()
        self.gru, self.backward_ = nn.GRU(width, hidden, batch_first=True), backward

    def forward(self, states: Tensor, order: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs at their tokens, (batch, length, hidden), and the final state, (batch, hidden).

        Args:
            states: (batch, length, width).
            order: the positions of each row, non-padding ones first.
            lengths: the number of non-padding tokens, at least 1.
        """
        if self.backward_:
            places = torch.arange(states.shape[1], device=states.device)
            back = lengths[:, None] - 1 - places
            order = order.gather(1, torch.where(back < 0, back + states.shape[1], back))
        read = self.gru(states.gather(1, order[..., None].expand_as(states)))[0]
        last = read.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, read.shape[-1]))[:, 0]
        back = _inverse(order)
        return read.gather(1, back[..., None].expand_as(read)), last


class BiGru(nn.Module):
    """Embeddings, bidirectional GRU layers, and a linear head on the final states or on every token.

    For the vector of a text there is no head, or a layer without dropout: the final states are the vector.
    """

    def __init__(
        self, *, vocabulary: int, embedding: int, hidden: int, layers: int, dropout: float, classes: int, tokens: bool,
        vector: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, embedding)
        widths = [embedding, *[2 * hidden] * (layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(Direction(width, hidden, backward=backward) for backward in (False, True)) for width in widths
        )
        self.dropout, self.tokens, self.embeds = nn.Dropout(dropout), tokens, vector is not None
        self.head = _head(2 * hidden, classes, vector)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Any]:
        """`logits`, (batch, classes) or (batch, length, classes), and `hidden_states`, each (batch, length, width).

        For the vector of a text `embedding`, (batch, width), in place of logits.
        """
        mask = _mask(input_ids, attention_mask)
        order, lengths = _tokens_first(mask), mask.sum(1).clamp_min(1)
        states = [_kept(self.embeddings(input_ids), mask)]
        ends: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList), "a layer is its two directions"
            read = [direction(self.dropout(states[-1]), order, lengths) for direction in layer]
            states.append(_kept(torch.cat([outputs for outputs, _ in read], -1), mask))
            ends = [end for _, end in read]
        pooled = states[-1] if self.tokens else torch.cat(ends, -1)
        found = _embedding(self.head, pooled) if self.embeds else _logits(self.head, self.dropout(pooled))
        return {**found, "hidden_states": tuple(states)}


class TextCnn(nn.Module):
    """Embeddings, parallel convolutions of several widths, max pooling over the tokens, and a linear head.

    For the vector of a text there is no head, or a layer without dropout: the maxima are the vector.
    Kim 2014, "Convolutional Neural Networks for Sentence Classification".
    """

    def __init__(
        self, *, vocabulary: int, embedding: int, filters: int, kernels: Sequence[int], dropout: float, classes: int,
        vector: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, filters, kernel) for kernel in kernels)
        self.dropout, self.embeds = nn.Dropout(dropout), vector is not None
        self.head = _head(filters * len(kernels), classes, vector)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Any]:
        """`logits`, (batch, classes), and `hidden_states`: the embeddings, and the filters at each token.

        For the vector of a text `embedding`, (batch, width), in place of logits.
        """
        mask = _mask(input_ids, attention_mask)
        embedded = _kept(self.embeddings(input_ids), mask)
        columns = self.dropout(embedded).mT
        found = []
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d), "made above"
            (kernel,) = convolution.kernel_size
            # Zeros beyond the ends, as at the padding of a row: the outputs do not depend on the padded length.
            found.append(convolution(functional.pad(columns, ((kernel - 1) // 2, kernel // 2))).relu())
        # The outputs of relu are at least 0, so zeros at padding do not change the maximum.
        states = _kept(torch.cat(found, 1).mT, mask)
        pooled = states.amax(1)
        made = _embedding(self.head, pooled) if self.embeds else _logits(self.head, self.dropout(pooled))
        return {**made, "hidden_states": (embedded, states)}


def make(configuration: Mapping[str, Any]) -> nn.Module:
    """The network of a configuration that its model's `save` wrote, with randomly initialised weights."""
    sizes: dict[str, Any] = dict(configuration["sizes"])
    networks: dict[str, type[nn.Module]] = {"bigru": BiGru, "textcnn": TextCnn, "static": StaticEmbeddings}
    return networks[configuration["network"]](**sizes)


def load(folder: str | Path) -> tuple[nn.Module, Any]:
    """The network, in evaluation mode, and the tokenizer in a folder that a run has written."""
    from transformers import AutoTokenizer

    configuration = read_back.mapping(Path(folder) / CONFIGURATION)
    module = make(configuration)
    if isinstance(module, StaticEmbeddings):
        static_files.load(module, static_files.read(Path(folder)))
    else:
        load_model(module, str(Path(folder) / WEIGHTS))
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.model_input_names = [
        "input_ids",
        "attention_mask",
    ]  # the tokenizer may be a transformers model's, with token types
    return module.eval(), tokenizer


def _head(width: int, classes: int, vector: int | None) -> nn.Linear | None:
    """The last layer of a network: for logits, or to the width of a vector; None where the state is the vector."""
    made = classes if vector is None else vector
    return nn.Linear(width, made) if made or vector is None else None


def _logits(head: nn.Linear | None, state: Tensor) -> dict[str, Tensor]:
    assert head is not None, "logits have a head"
    return {"logits": head(state)}


def _embedding(head: nn.Linear | None, state: Tensor) -> dict[str, Tensor]:
    return {"embedding": state if head is None else head(state)}


def _mask(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    return torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask != 0


def _tokens_first(mask: Tensor) -> Tensor:
    """The positions of each row, non-padding ones first, both kinds in their order, (batch, length).

    Counted and not sorted: a stable sort is nothing that ONNX has.
    """
    tokens, padding = mask.long().cumsum(1), (~mask).long().cumsum(1)
    return _inverse(torch.where(mask, tokens, tokens[:, -1:] + padding) - 1)


def _inverse(order: Tensor) -> Tensor:
    """The permutation of each row that undoes it, (batch, length)."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.zeros_like(order).scatter(1, order, places)


def _kept(states: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None], states, 0.0)
