"""What a built model does with the vectors of a text, for those who use its exported file: pooling, length, comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn


def readout_of(module: nn.Module) -> dict[str, Any]:
    """`pooling` and `normalized`, both of which the model's output has already; empty for a model that is not known."""
    from kdspec.hf.embedding.text_embedder import TextEmbedder
    from kdspec.networks.static_embeddings import StaticEmbeddings

    match module:
        case TextEmbedder():
            return {"pooling": module.readout.pooling, "normalized": module.readout.normalize}
        case StaticEmbeddings():
            return {"pooling": "mean", "normalized": module.normalize}
    return {}


def comparison_of(module: nn.Module) -> Literal["cos", "dot", "maxsim"]:
    """How two of its vectors are compared; by their cosine where that is not known."""
    from kdspec.hf.scoring.bi_encoder import BiEncoder

    return module.comparison.similarity if isinstance(module, BiEncoder) else "cos"
