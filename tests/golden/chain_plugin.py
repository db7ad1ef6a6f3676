"""A plugin with the small models, data and rules of TextBrewer's golden trajectory, as a user's file would have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kdspec import (
    BuildContext,
    Component,
    Dataset,
    LrSchedule,
    Model,
    ModelContext,
    ModelFacts,
    Projection,
    ProjectionContext,
    hookimpl,
)


def fill(module: Any, offset: float) -> None:
    """The k-th parameter is 0.3 · sin(0.7 i + k + offset) at its i-th element."""
    import torch

    with torch.no_grad():
        for k, (_, parameter) in enumerate(module.named_parameters()):
            i = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((0.3 * torch.sin(0.7 * i + k + offset)).view_as(parameter))


class Chain(Model):
    """Embeddings, tanh layers and a classifier on the first token, in float64."""

    name = "chain"
    width: int
    """Width of every layer."""
    depth: int
    """Number of layers."""
    offset: float
    """Phase of the weights."""

    def facts(self, context: ModelContext) -> ModelFacts:
        return ModelFacts(layers=self.depth, width=self.width)

    def build(self, context: ModelContext) -> Any:
        import torch
        from torch import nn

        width, depth = self.width, self.depth

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.emb = nn.Embedding(10, width, dtype=torch.float64)
                self.ls = nn.ModuleList(nn.Linear(width, width, dtype=torch.float64) for _ in range(depth))
                self.out = nn.Linear(width, 5, dtype=torch.float64)

            def forward(self, ids: Any, mask: Any, label: Any = None) -> dict[str, Any]:
                hidden = [self.emb(ids)]
                for layer in self.ls:
                    hidden.append(torch.tanh(layer(hidden[-1])))
                logits = self.out(hidden[-1][:, 0])
                found = {"logits": logits, "hidden": hidden}
                if label is not None:
                    found["loss"] = nn.functional.cross_entropy(logits, label)
                return found

        module = Module()
        fill(module, self.offset)
        return module


class Rows(Dataset):
    """Twelve rows of four tokens."""

    name = "golden_rows"

    def column_names(self, context: BuildContext) -> Mapping[str, Collection[str]]:
        return {"train": ("ids", "mask", "label")}

    def first(self, context: BuildContext, rows: int) -> Mapping[str, Sequence[Any]]:
        ids = [[(3 * i + 2 * j + i * j) % 10 for j in range(4)] for i in range(min(rows, 12))]
        masks = [[1, 1, 1, 1 if i % 2 == 0 else 0] for i in range(len(ids))]
        return {"ids": ids, "mask": masks, "label": [i % 5 for i in range(len(ids))]}

    def build(self, context: BuildContext) -> Any:
        import datasets

        return datasets.DatasetDict(train=datasets.Dataset.from_dict(self.first(context, 12)))


class Sine(Projection):
    """A linear projection with fixed weights."""

    name = "sine"

    def build(self, context: ProjectionContext) -> Any:
        import torch
        from torch import nn

        module = nn.Linear(context.student_width, context.teacher_width, dtype=torch.float64)
        fill(module, 2.0)
        return module


class Harmonic(LrSchedule):
    """1 / (1 + step)."""

    name = "harmonic"

    def build(self, context: BuildContext) -> Callable[[int], float]:
        return lambda step: 1 / (1 + step)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Everything that the golden spec names."""
    return [Chain, Rows, Sine, Harmonic]
