"""The table at the end of a run: each model's quality, size and speed beside the others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from kdspec.engine import export
from kdspec.engine.evaluation import Outcome, agreement, evaluate, latency
from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward
from kdspec.engine.judge import judging
from kdspec.engine.models import Models
from kdspec.kinds import BuiltTask
from kdspec.plan import Plan

BATCH = 64


@dataclass(frozen=True)
class Row:
    """One model. Its metrics are those of `split`, which no stage has learnt from."""

    model: str
    role: str
    """`teacher`, `student`, or `baseline` for a student that was not taught."""
    task: str
    split: str
    metrics: dict[str, float]
    agreement: float | None
    """The part of rows for which it chooses the teacher's class."""
    parameters: int
    bytes: int
    """Size of its weights on disk."""
    latency_ms: float | None
    """Median milliseconds of one row on this machine."""


def table(plan: Plan, models: Models, tasks: Mapping[str, BuiltTask], device: torch.device) -> tuple[Row, ...]:
    """Evaluate every model that took part on the test rows, or the validation rows where there are none."""
    taught = [stage for stage in plan.stages if stage.needs.teachers]
    reference = taught[-1].needs.teachers[0] if taught else None
    rows: list[Row] = []
    outcomes: dict[str, Outcome] = {}
    for name in _in_order(plan, reference):
        task_name = plan.task_of[name]
        task = tasks[task_name]
        split = next((s for s in ("test", "validation") if task.rows(s)), None)
        module = models.prepared(name, device, trains=False, eager=False)
        metrics: dict[str, float] = {}
        time_of_one = None
        if split is not None:
            key = models.tokenizer(name)
            features = judging(plan, name, task_name)
            forward = Forward(
                name, module, features, labels=task.label_keys, chooses=key[0] is not None,
                spec=plan.spec, task=task_name,
            )  # fmt: skip
            feed = Feed(task, split, {name: key}, device=device)
            if features:
                outcomes[name] = evaluate(forward, task, feed, BATCH)
                metrics = outcomes[name].metrics
            time_of_one = 1000 * latency(forward, feed)
        same = None
        if reference in outcomes and name in outcomes and name != reference:
            same = agreement(outcomes[name], outcomes[reference], plan.spec.tasks[task_name].logits)
        rows.append(
            Row(
                model=name,
                role=_role(plan, name),
                task=task_name,
                split=split or "",
                metrics=metrics,
                agreement=same,
                parameters=_parameters(module),
                bytes=export.size(models.trained[name]) if name in models.trained else _bytes(module),
                latency_ms=time_of_one,
            )
        )
    return tuple(rows)


def _in_order(plan: Plan, reference: str | None) -> list[str]:
    """Teachers first, then students in the order of their stages; the reference before all."""
    teachers = [name for stage in plan.stages for name in stage.needs.teachers]
    students = [stage.needs.student for stage in plan.stages]
    taught = [stage.needs.student for stage in plan.stages if stage.needs.teachers]
    first = [reference] if reference else []
    return list(dict.fromkeys((*first, *teachers, *taught, *students)))


def _role(plan: Plan, name: str) -> str:
    if any(name in stage.needs.teachers for stage in plan.stages):
        return "teacher"
    taught = any(stage.needs.student == name and stage.needs.teachers for stage in plan.stages)
    return "student" if taught else "baseline"


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
