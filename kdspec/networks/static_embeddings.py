"""A network with one vector a token: the embedding of a text is the mean of the vectors of its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class StaticEmbeddings(nn.Module):
    """The mean of token vectors, each times its weight if there are weights; a linear head for classes on top.

    Special tokens have the vector 0 and are not counted, so that a text has the embedding that Model2Vec and
    sentence-transformers give it, which tokenise without them. A text without any other token has the embedding 0.

    Args:
        vocabulary: number of tokens.
        embedding: width of their vectors.
        normalize: whether embeddings have length 1.
        weights: whether each token has a trained weight too.
        head: whether there is a head, that is, the network's output is not the embedding alone.
        classes: the outputs of the head.
        ignored: the ids of tokens that are not counted.
        projected: the width to which embeddings are projected, before they are normalised; None: they are not.
    """

    counted: Tensor
    configuration: Mapping[str, Any]
    """The sizes, the task and its labels, as they are saved."""

    def __init__(
        self, *, vocabulary: int, embedding: int, normalize: bool, weights: bool, head: bool, classes: int,
        ignored: Sequence[int] = (), projected: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embeddings, self.normalize = nn.Embedding(vocabulary, embedding), normalize
        self.weights = nn.Parameter(torch.ones(vocabulary)) if weights else None
        # Without a bias: that of a text without a token that counts would be its embedding.
        self.projection = None if projected is None else nn.Linear(embedding, projected, bias=False)
        self.head = nn.Linear(projected or embedding, classes) if head else None
        counted = torch.ones(vocabulary, dtype=torch.bool)
        counted[list(ignored)] = False
        self.register_buffer("counted", counted, persistent=False)
        self.forget_ignored()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Any]:
        """`embedding`, (batch, width); `hidden_states`, the vectors of the tokens; `logits`, (batch, classes), if it has a head."""
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask != 0
        counted = mask & self.counted[input_ids]
        states = torch.where(counted[..., None], self.embeddings(input_ids), 0.0)
        share = counted.to(states.dtype) if self.weights is None else counted * self.weights[input_ids]
        # Divided by the number of tokens, not by the sum of their weights, as Model2Vec does it.
        embedding = (states * share[..., None]).sum(1) / counted.sum(1, keepdim=True).clamp_min(1)
        if self.projection is not None:
            embedding = self.projection(embedding)
        if self.normalize:
            embedding = functional.normalize(embedding, dim=-1)
        found = {"embedding": embedding, "hidden_states": (states,)}
        return found if self.head is None else {**found, "logits": self.head(embedding)}

    def forget_ignored(self) -> None:
        """Set the vectors of tokens that are not counted to 0: they never change, and other programs may count them."""
        with torch.no_grad():
            self.embeddings.weight.masked_fill_(~self.counted[:, None], 0)

    def folded(self) -> dict[str, Tensor]:
        """The state of the network with equal embeddings and no projection, nor the weights that go into it."""
        state = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        if self.projection is None:
            return state
        rows = self.embeddings.weight.detach().double()
        if (weights := state.pop("weights", None)) is not None:
            rows = rows * weights.double()[:, None]
        projected = rows @ state.pop("projection.weight").double().T
        return {**state, "embeddings.weight": projected.to(self.embeddings.weight.dtype)}

    def fold(self) -> None:
        """Make it the network of `folded`."""
        if self.projection is not None:
            table = self.folded()["embeddings.weight"]
            self.embeddings = nn.Embedding(len(table), table.shape[1], _weight=table)
            self.projection = self.weights = None
