"""A plugin with small models that give a vector for each text, and a match of these vectors."""

from __future__ import annotations

from typing import Any

from kdspec import BuildContext, Component, FeatureLoss, Model, ModelContext, hookimpl
from kdspec.api.spec.file_fields import SpecTokenizer


class Embedder(Model):
    """The mean of the embeddings of the tokens of a text, with a linear layer."""

    name = "embedder"
    scope = "row"
    folder: SpecTokenizer
    """The folder of its tokenizer."""
    width: int = 8
    """Width of the vectors."""
    seed: int = 0
    """Seed of the weights."""
    prompt: str = ""
    """The name of a prompt that it has."""
    padded: bool = False
    """Whether padding counts as tokens do."""

    def build(self, context: ModelContext) -> Any:
        import torch
        from torch import nn

        width, padded = self.width, self.padded

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embeddings = nn.Embedding(200, width)
                self.out = nn.Linear(width, width)

            def forward(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
                mask = attention_mask.new_ones(attention_mask.shape) if padded else attention_mask
                kept = mask[..., None].to(self.out.weight.dtype)
                hidden = self.embeddings(input_ids)
                return {"embedding": self.out((hidden * kept).sum(1) / kept.sum(1)), "hidden": (hidden,)}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1000 * padded)  # a look at a model is kept by its weights
            return Module()

    def prompts(self, context: ModelContext) -> dict[str, str]:
        return {self.prompt: "good "} if self.prompt else {}

    def tokenizer(self, context: ModelContext) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(context.folder / self.folder)

    def tokenizer_id(self, context: ModelContext) -> str:
        return str(context.folder / self.folder)


class Apart(FeatureLoss):
    """The squared distance of two vectors."""

    name = "apart"
    scope = "row"

    def build(self, context: BuildContext) -> Any:
        from kdspec import Mean

        def loss(student: Any, teacher: Any, *, mask: Any) -> Any:
            return Mean((student - teacher).square().sum(), float(len(student)))

        return loss


class Spread(Apart):
    """The same, of which nothing is promised."""

    name = "spread"
    scope = "micro_batch"


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Everything that the specs name."""
    return [Embedder, Apart, Spread]
