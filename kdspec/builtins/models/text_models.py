"""Text models that are not transformers: `bigru` and `textcnn`, for small and fast students."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from kdspec.api.component import Component, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.api.spec.bounds import LARGEST_WIDTH, LONGEST_ROW, MOST_LAYERS
from kdspec.api.spec.file_fields import SpecFile
from kdspec.diagnostics.fault import Fault
from kdspec.networks import word_vectors
from kdspec.networks.text_model import TextModel

if TYPE_CHECKING:
    import torch
    from torch import nn


class WordVectorModel(TextModel):
    """The base class of both: embeddings that word vectors may initialise."""

    vectors: SpecFile | None = None
    """Word vectors to initialise the embeddings, a text file of GloVe or word2vec, used for tokens that are words in
    it. Default: random initialisation. The student's `config.json` records how many were found."""
    embedding: int = Field(default=256, gt=0, le=LARGEST_WIDTH)
    """Width of the embeddings; must be that of `vectors`, if given."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the values that is dropped in training."""

    def check(self, context: ModelContext) -> Iterator[Fault]:
        """Check that the word vectors have the width of the embeddings."""
        if self.vectors is not None and (width := word_vectors.width(context.folder / self.vectors)) != self.embedding:
            message = f"the word vectors are {width} wide, the embeddings {self.embedding}"
            yield Fault("KD302", message, ("vectors",), help=f"write `embedding: {width}`")

    def facts(self, context: ModelContext) -> ModelFacts:
        """Facts from the sizes, with the width of the vector of a text."""
        found = super().facts(context)
        saved = self.saved(context).get("sizes", {})
        if found.layers is None:
            return found
        return replace(found, embedding=saved.get("vector") or self.shape(saved or self.sizes("", context))[1])

    def kept_projections(self, context: ModelContext) -> frozenset[Literal["keep", "fold"]]:
        """`keep`, as its head; one from a folder has the head that it has."""
        del context
        return frozenset({"keep"}) if self.path is None else frozenset()

    def of_task(self, context: ModelContext) -> dict[str, Any]:
        """The width of the vector, in place of classes."""
        head, kept = context.head, context.projection
        return {"vector": kept.width if kept else 0} if head is not None and head.kind == "embedding" else {}

    def begin(self, module: nn.Module, context: ModelContext) -> frozenset[str]:
        """Write the word vectors into the embeddings. Rows without a word stay random, so none counts as loaded."""
        import torch

        if self.vectors is not None:
            table = cast("torch.Tensor", module.embeddings.weight)  # type: ignore[union-attr]  # our networks have them
            with torch.no_grad():
                found = word_vectors.fill(table, self.own_tokenizer(context).get_vocab(), context.folder / self.vectors)
            module.configuration["vectors"] = {"tokens": len(table), "found": found}  # type: ignore[assignment, operator, index]  # set by `build`
        return frozenset()


class BiGruModel(WordVectorModel):
    """A bidirectional GRU, with the tokenizer of another model.

    `hidden_states` are the embeddings and one tensor a layer, `2 hidden` wide; if `embedding` is another width, the
    width of a match is determined at run time. Padding does not matter. For classification and regression the head is
    on both ends of the last layer, which are the vector of a text; for tagging it is on each token.
    Papers: Cho et al. 2014 (https://arxiv.org/abs/1406.1078) for the GRU; Tang et al. 2019, "Distilling Task-Specific
    Knowledge from BERT into Simple Neural Networks" (https://arxiv.org/abs/1903.12136) for such a student.
    """

    name = "bigru"
    heads = frozenset({"embedding", "sequence_classification", "multi_label", "regression", "token_classification"})

    hidden: int = Field(default=256, gt=0, le=LARGEST_WIDTH)
    """Width of one direction."""
    layers: int = Field(default=1, gt=0, le=MOST_LAYERS)
    """Number of layers, each in both directions."""

    def sizes(self, kind: str, context: ModelContext) -> dict[str, Any]:
        del context
        tokens = kind == "token_classification"
        own = {"hidden": self.hidden, "layers": self.layers, "tokens": tokens}
        return {"embedding": self.embedding, "dropout": self.dropout, **own}

    def shape(self, sizes: Mapping[str, Any]) -> tuple[int, int]:
        return sizes["layers"], 2 * sizes["hidden"]


class TextCnnModel(WordVectorModel):
    """Convolutions of several widths over a text with max pooling; with the tokenizer of another model.

    `hidden_states` are the embeddings and the filters at each token, of width `filters` times the number of `kernels`.
    The maxima of the filters are the vector of a text. Outputs do not depend on padding.
    Paper: Kim 2014, "Convolutional Neural Networks for Sentence Classification" (https://arxiv.org/abs/1408.5882).
    """

    name = "textcnn"
    heads = frozenset({"embedding", "sequence_classification", "multi_label", "regression"})

    filters: int = Field(default=100, gt=0, le=LARGEST_WIDTH)
    """Filters of each width."""
    kernels: list[Annotated[int, Field(le=LONGEST_ROW)]] = Field(default=[3, 4, 5], min_length=1)
    """Kernel widths in tokens, one convolution for each."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for number, width in enumerate(self.kernels):
            if width < 1:
                raise invalid_value("a kernel is at least 1 token wide", "kernels", number)
        return self

    def sizes(self, kind: str, context: ModelContext) -> dict[str, Any]:
        del kind, context
        own = {"filters": self.filters, "kernels": list(self.kernels)}
        return {"embedding": self.embedding, "dropout": self.dropout, **own}

    def shape(self, sizes: Mapping[str, Any]) -> tuple[int, int]:
        return 1, sizes["filters"] * len(sizes["kernels"])


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The models."""
    return [BiGruModel, TextCnnModel]
