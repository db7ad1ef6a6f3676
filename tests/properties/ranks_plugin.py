"""A plugin for runs of several processes: accidents that happen to one of them, and a student with several heads."""

from __future__ import annotations

import json
import os
from typing import Any

from kdspec import (
    BuildContext,
    Component,
    Distiller,
    LogitLoss,
    LrSchedule,
    Model,
    ModelContext,
    Needs,
    ObjectiveContext,
    TaskNeeds,
    hookimpl,
)


def struck() -> dict[str, Any]:
    """What happens to this process in the present step: `AT` has the `step`, maybe the `rank`, and what it is."""
    at = json.loads(os.environ.get("AT", "{}"))
    mine = at.get("rank", None) in (None, int(os.environ.get("RANK", "0")))
    return at if mine and str(at.get("step")) == os.environ.get("NOW") else {}


class Accident(LrSchedule):
    """A constant rate, until something happens."""

    name = "accident"

    def build(self, context: BuildContext) -> Any:
        def factor(step: int) -> float:
            os.environ["NOW"] = str(step)
            now = struck()
            if "signal" in now:
                os.kill(os.getpid(), now["signal"])
            if "raises" in now:
                raise ValueError(now["raises"])
            return 1.0

        return factor


class Fragile(LogitLoss):
    """The squared difference, until it is not finite."""

    name = "fragile"

    def build(self, context: BuildContext) -> Any:
        def loss(student: Any, teacher: Any, *, temperature: Any) -> Any:
            return (student - teacher).square().mean() * float(struck().get("factor", 1.0))

        return loss


class Peeking(Distiller):
    """The labels' loss, by a strategy that looks at the models between their forward passes."""

    name = "peeking"
    teacher: str
    """Who is looked at."""
    student: str
    """Who learns."""

    def needs(self) -> Needs:
        return Needs(student=self.student, tasks=(TaskNeeds(teachers=(self.teacher,), hard_labels=True),))

    def build(self, context: ObjectiveContext) -> Any:
        from kdspec import DistillationObjective

        class Looking(DistillationObjective):
            changes_modules = True

            def on_step_begin(self, progress: float, models: Any) -> None:
                assert {"teacher", "student"} <= models.keys()

        return Looking(tasks=context.tasks, hard=lambda _: 1.0)


class Forked(Model):
    """A toy with a classifier for each task that it learns, which it returns by the task's name."""

    name = "forked"

    def can_learn(self, head: Any) -> bool:
        return True

    def build(self, context: ModelContext) -> Any:
        import torch
        from torch import nn

        tasks = tuple(context.heads)

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.emb = nn.Embedding(11, 4)
                self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
                self.heads = nn.ModuleDict({task: nn.Linear(4, 5) for task in tasks})

            def forward(self, ids: Any, mask: Any) -> dict[str, Any]:
                hidden = [self.emb(ids)]
                for layer in self.layers:
                    hidden.append(torch.tanh(layer(hidden[-1])))
                kept = mask[..., None].to(hidden[-1].dtype)
                pooled = (hidden[-1] * kept).sum(1) / kept.sum(1).clamp(min=1)
                return {"hidden": hidden, **{task: head(pooled) for task, head in self.heads.items()}}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return Module().double()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Everything that the specs name."""
    return [Accident, Fragile, Forked, Peeking]
