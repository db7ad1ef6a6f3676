"""A plugin with small models and rows whose masks and labels have gaps, in float64."""

from __future__ import annotations

import os
import signal
from typing import Any

from kdspec import BuildContext, Component, Dataset, FeatureLoss, LogitLoss, Model, ModelContext, ModelFacts, hookimpl

VOCABULARY, CLASSES, LENGTH = 11, 5, 6


class Toy(Model):
    """Embeddings, layers with dropout, and a classifier on the mean of the tokens that count."""

    name = "toy"
    width: int = 4
    """Width of every layer."""
    depth: int = 2
    """Number of layers."""
    dropout: float = 0.0
    """Part of the values that is dropped while it trains."""
    secret: bool = False
    """Whether layers and width are kept from the plan."""
    single: bool = False
    """Whether the weights are in float32."""

    def facts(self, context: ModelContext) -> ModelFacts:
        return ModelFacts() if self.secret else ModelFacts(layers=self.depth, width=self.width)

    def build(self, context: ModelContext) -> Any:
        import torch
        from torch import nn

        width, depth, dropout = self.width, self.depth, self.dropout

        class Layer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(width, width)
                self.dropout = nn.Dropout(dropout)

            def forward(self, states: Any) -> Any:
                return self.dropout(torch.tanh(self.linear(states)))

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.emb = nn.Embedding(VOCABULARY, width)
                self.layers = nn.ModuleList(Layer() for _ in range(depth))
                self.out = nn.Linear(width, CLASSES)

            def forward(self, ids: Any, mask: Any, label: Any = None) -> dict[str, Any]:
                hidden = [self.emb(ids)]
                for layer in self.layers:
                    hidden.append(layer(states=hidden[-1]))
                kept = mask[..., None].to(hidden[-1].dtype)
                pooled = (hidden[-1] * kept).sum(1) / kept.sum(1).clamp(min=1)
                logits = self.out(pooled)
                found = {"logits": logits, "hidden": tuple(hidden), "embedding": pooled, "heads": [logits, 2 * logits]}
                if label is not None:
                    found["loss"] = nn.functional.cross_entropy(logits, label)
                return found

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sum(context.name.encode()))
            module = Module()
        return module if self.single else module.double()


class Ragged(Dataset):
    """Rows of tokens with masks of differing lengths; some labels are missing."""

    name = "ragged"
    train: int = 11
    """Number of rows, as for the other splits."""
    validation: int = 0
    """0 for none."""
    test: int = 0
    """0 for none."""
    unlabelled: int = 0
    """0 for none."""
    gaps: int = 0
    """Each so many rows one without a label, 0 for none."""

    def build(self, context: BuildContext) -> Any:
        import datasets

        found, first = {}, 0
        for split in ("train", "validation", "test", "unlabelled"):
            count = getattr(self, split)
            rows = [_row(number, self.gaps) for number in range(first, first + count)]
            if rows:
                columns = {key: [row[key] for row in rows] for key in rows[0]}
                found[split] = datasets.Dataset.from_dict(columns)
            first += count
        return datasets.DatasetDict(found)


def _row(number: int, gaps: int) -> dict[str, Any]:
    length = 1 + (number * 5) % LENGTH
    return {
        "ids": [(7 * number + 3 * at + number * at) % VOCABULARY for at in range(LENGTH)],
        "mask": [int(at < length) for at in range(LENGTH)],
        "label": -100 if gaps and number % gaps == 0 else (number * number) % CLASSES,
    }


class Scaled(LogitLoss):
    """The squared difference of the logits after a factor that is learnt."""

    name = "scaled"

    def build(self, context: BuildContext) -> Any:
        import torch
        from torch import nn

        class Loss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.factor = nn.Parameter(torch.ones(()))

            def forward(self, student: Any, teacher: Any, *, temperature: Any) -> Any:
                return (self.factor * student - teacher.detach()).square().mean()

        return Loss()


class Alike(FeatureLoss):
    """How alike the rows of a whole step are to one another, by the mean of their tokens."""

    name = "alike"
    scope = "step"
    feature = "hidden"
    same_width = False

    def build(self, context: BuildContext) -> Any:
        from torch.nn import functional

        def similarity(states: Any, mask: Any) -> Any:
            kept = mask[..., None].to(states.dtype)
            pooled = functional.normalize((states * kept).sum(1) / kept.sum(1).clamp(min=1), dim=-1)
            return pooled @ pooled.T

        def loss(student: Any, teacher: Any, *, mask: Any) -> Any:
            return (similarity(student, mask) - similarity(teacher, mask)).square().mean()

        return loss


class LearntAlike(Alike):
    """The same after a factor for each feature of the student, which is learnt."""

    name = "learnt_alike"
    same_width = True

    def build(self, context: BuildContext) -> Any:
        import torch
        from torch import nn

        plain = super().build(context)

        class Loss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.factors = nn.Parameter(torch.linspace(0.5, 1.5, 6))

            def forward(self, student: Any, teacher: Any, *, mask: Any) -> Any:
                return plain(student * self.factors.to(student.dtype), teacher, mask=mask)

        return Loss()


class StopAt:
    """An observer that asks the run to stop, as Ctrl-C does, once a step is done."""

    def __init__(self, step: int, stage: str = "distil", number: int = signal.SIGINT) -> None:
        self.step, self.stage, self.number = step, stage, number
        self.__name__ = "stop_at"

    @hookimpl
    def kdspec_observe(self, event: Any, session: Any) -> None:
        if type(event).__name__ == "StepDone" and (event.stage, event.step) == (self.stage, self.step):
            os.kill(os.getpid(), self.number)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Everything that the specs name."""
    return [Toy, Ragged, Scaled, Alike, LearntAlike]
