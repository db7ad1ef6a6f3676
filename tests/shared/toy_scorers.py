"""A model that scores candidates, as a component, with the tokenizer of a folder."""

from __future__ import annotations

from typing import Any

import torch
from ranking_models import Scorer

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import Model, ModelContext
from kdspec.api.spec.file_fields import SpecFolderOrHub


class ToyScorer(Model):
    """Scores pairs by the mean of their token vectors, or compares the vectors of two texts."""

    name = "toy_scorer"
    scope = "position"
    path: SpecFolderOrHub
    """A folder with a tokenizer."""
    reads: str = "pair"
    """`pair` or `each`."""
    factor: float = 1.0
    """What its scores are multiplied by."""

    def tokenizer(self, context: ModelContext) -> Any:
        import transformers

        return transformers.AutoTokenizer.from_pretrained(context.folder / self.path)

    def tokenizer_id(self, context: ModelContext) -> str:
        return str(context.folder / self.path)

    def form(self, context: ModelContext) -> str:
        return self.reads

    def build(self, context: ModelContext) -> Any:
        made = Scorer(len(self.tokenizer(context)), seed=context.seed)
        with torch.no_grad():
            made.out.weight.mul_(self.factor)
        return made


@hookimpl
def kdspec_components() -> list[type]:
    return [ToyScorer]
