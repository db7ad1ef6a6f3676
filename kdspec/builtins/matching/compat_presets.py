"""Presets of matches that follow the conventions of other libraries, by the library's name and the name of its loss."""

from __future__ import annotations

from typing import Any, Literal

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import MatchPreset

Metric = Literal["cosine", "l2", "mse"]


class SentenceTransformersEmbedDistill(MatchPreset):
    """The `EmbedDistillLoss` of sentence-transformers 6: the student's embedding follows the teacher's.

    `cosine` is `cos`, `l2` is `embedding_l2`, and `mse` is `embedding_mse` over elements. If the widths differ, the student
    is projected; sentence-transformers has a projection for `projection_dim` only, which it does not save with the model.
    Paper: Kim et al. 2023, "EmbedDistill" (https://arxiv.org/abs/2301.12005).
    """

    name = "sentence_transformers.embed_distill"

    metric: Metric = "cosine"
    """What is compared, sentence-transformers' `distance_metric`."""

    def build(self, context: BuildContext) -> list[dict[str, Any]]:
        del context
        losses = {"cosine": "cos", "l2": "embedding_l2", "mse": {"embedding_mse": {"over": "elements"}}}
        return [{"feature": "embedding", "loss": losses[self.metric]}]


class SentenceTransformersMse(MatchPreset):
    """The `MSELoss` of sentence-transformers 6: `embedding_mse` over elements.

    The usual loss of multilingual students; for normalised vectors it is 2 / width of `cos`.
    Paper: Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation"
    (https://arxiv.org/abs/2004.09813).
    """

    name = "sentence_transformers.mse"

    def build(self, context: BuildContext) -> list[dict[str, Any]]:
        return SentenceTransformersEmbedDistill(metric="mse").build(context)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The presets of other libraries."""
    return [SentenceTransformersEmbedDistill, SentenceTransformersMse]
