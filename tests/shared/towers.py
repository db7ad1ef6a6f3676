"""A plugin with models that score the candidates of queries: `tower` by vectors of letters, read alone or in pairs."""

from __future__ import annotations

from typing import Any, Literal

from kdspec import Component, Model, ModelContext, ModelFacts, hookimpl

TOKENIZER = "letters"
"""The folder of the tokenizer, beside the spec."""


class Tower(Model):
    """Mean vectors of letters; its weights are made of a seed, as if they were in a file."""

    name = "tower"
    scope = "row"
    seed: int = 0
    """Of the weights."""
    reads: Literal["pair", "each"] = "each"
    """How it reads a row."""

    def facts(self, context: ModelContext) -> ModelFacts:
        return ModelFacts()

    def form(self, context: ModelContext) -> str:
        return self.reads

    def tokenizer_id(self, context: ModelContext) -> str:
        return TOKENIZER

    def tokenizer(self, context: ModelContext) -> Any:
        import transformers

        return transformers.AutoTokenizer.from_pretrained(context.folder / TOKENIZER)

    def build(self, context: ModelContext) -> Any:
        from ranking_models import Scorer

        return Scorer(len(self.tokenizer(context)), seed=self.seed)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The model."""
    return [Tower]
