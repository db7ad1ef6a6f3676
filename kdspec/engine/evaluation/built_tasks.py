"""Builds the tasks of a plan; one whose rows are made with a model asks it before any stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kdspec.api.plan.plan import Plan
from kdspec.api.working.evaluator import State
from kdspec.api.working.task import BuiltTask, Head
from kdspec.diagnostics.finding import Finding
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.evaluation.results import BATCH
from kdspec.engine.forward.guarded_task import GuardedTask, built, untold
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.trained_heads import with_downloads
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.networks.module_digest import module_digest
from kdspec.planning.feature_reader import locate


def built_tasks(
    plan: Plan, tell: Callable[[Finding], None] = untold, process_group: ProcessGroup | None = None
) -> dict[str, GuardedTask]:
    """All tasks of the stages, by name, in the order of the stages.

    Args:
        plan: the plan.
        tell: gets warnings and notes about rows.
        process_group: of several processes, which all call this, each with the device on which models compute.
    """
    known = with_downloads(plan)
    group = process_group or ProcessGroup(device="cuda" if torch.cuda.is_available() else "cpu")
    return {
        name: built(known, name, tell, FilesAlone(known, name, group))
        for name in dict.fromkeys(task for stage in plan.stages for task in stage.tasks)
    }


@dataclass
class FilesAlone:
    """The models of a plan as they are in their files, for the rows of one of its tasks (`FrozenModels`).

    Each process asks a model itself: whether it has to depends on its own disk.
    """

    plan: Plan
    task: str
    process_group: ProcessGroup
    _known: dict[str, Models] = field(default_factory=dict, init=False)

    def digest(self, model: str) -> str:
        """A checksum of its weights, structure and code, and of its tokenizer with prompts."""
        models = self._models(model)
        component, context = self.plan.spec.models[model], models.context(model)
        about = [module_digest(models.module(model)), component.tokenizer_id(context), component.written()]
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()

    def states(self, model: str, rows: BuiltTask) -> Sequence[State]:
        """Evaluate the model on the rows."""
        models = self._models(model)
        device = self.process_group.device
        models.prepared(model, device, trains=False, eager=False)
        reader = models.reader(model)
        evaluator = rows.evaluator("validation")
        forward = ModelRunner(
            ModelFindings(self.plan.spec, model, self.task), models.module(model),
            locate(self.plan.spec, model, self.task, sorted(evaluator.reads)), chooses=reader.tokenizer is not None,
        )  # fmt: skip
        loader = Loader(rows, "validation", {model: reader}, device=device)
        return evaluate(forward, rows, loader, BATCH, evaluator=evaluator).states

    def agreed(self, value: Any) -> Any:
        """That of rank 0."""
        return self.process_group.share(value)

    def _models(self, model: str) -> Models:
        if model not in self._known:
            # A model that is in no stage has the head of the task all the same.
            plan = replace(self.plan, tasks_of={**self.plan.tasks_of, model: (self.task,)})
            self._known[model] = Models(plan, {self.task: Head(kind=plan.spec.tasks[self.task].head)}, {})
        return self._known[model]
