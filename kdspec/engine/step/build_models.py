"""Builds the models of a stage, trained or frozen, with their features, and its objective."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from kdspec.api.kinds.distiller import ObjectiveContext
from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.working.objective import Objective
from kdspec.api.working.task import BuiltTask, WrappedTask
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.batches.sampler import fold, isolated_random, reseed
from kdspec.engine.forward.device import placed
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.large_head import large_head
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.forward.models import Models, checkpointing
from kdspec.engine.forward.requested_outputs import reads_attention
from kdspec.engine.forward.teacher_precision import TeacherPrecision, in_precision
from kdspec.engine.processes.backend import Backend
from kdspec.engine.step.trainable import TrainableModule


class StageModels:
    """Builds the parts of one stage, for a run and for a rehearsal, so that both train the same."""

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        models: Models,
        tasks: Mapping[str, BuiltTask],
        device: torch.device,
        backend: Backend | None = None,
    ) -> None:
        """`backend` may shard the teachers among processes."""
        self.plan, self.stage, self.models, self.tasks, self.device = plan, stage, models, tasks, device
        self.spec, self.backend = plan.spec, backend
        self.path = stage.at
        self.seed = fold(plan.spec.seed, "stage", stage.name)

    def runners(self, part: TaskPlan) -> dict[str, ModelRunner]:
        """The models of one task of the stage, with the features that are read of them.

        The student trains, the teachers are frozen.
        """
        return {name: self._forward(part, name) for name in part.models}

    def _forward(self, part: TaskPlan, name: str) -> ModelRunner:
        trains = name == self.stage.student
        # Tasks may share a model, so it is prepared for the features of all tasks at once.
        eager = any(reads_attention(each.features[name]) for each in self.stage.tasks.values() if name in each.models)
        weightless = not self.spec.models[name].has_weights
        divided = not trains and not weightless and self.backend is not None and self.backend.divides_teachers
        self.models.prepared(name, torch.device("cpu") if divided else self.device, trains=trains, eager=eager)
        module = self.models.view(name, part.task)
        as_it_is = trains or weightless or not part.features[name] or name in self.stage.needs.changing
        precision = None if as_it_is else self.stage.training.teacher_precision
        if precision is not None:
            module = in_precision(module, precision, torch.device("cpu"))
        if divided:
            assert self.backend is not None
            self.backend.divide(module)
        forward = ModelRunner(
            ModelFindings(self.spec, name, part.task, part.matches), module, part.features[name],
            chooses=self.models.tokenizer_id(name) is not None, trains=trains, entire=divided,
            arithmetic=None if precision is None else TeacherPrecision(precision, self.device.type),
            # Tasks that share a model may read different layers of it.
            selective=eager and not self.stage.several and self.models.chooses(name),
            head=large_head(self.spec.models[name], module, self.models.context(name)),
        )  # fmt: skip
        if trains and self.stage.training.gradient_checkpointing:
            self._checkpoint_activations(module)
        return forward

    def _checkpoint_activations(self, student: nn.Module) -> None:
        enable = checkpointing(student, "enable")
        if enable is None:
            at = ("stages", self.stage.name, "training", "gradient_checkpointing")
            message = f"model `{self.stage.student}` cannot checkpoint its activations"
            raise FindingError(Finding("KD503", message, at, help="only transformers models can"))
        enable({"use_reentrant": False})

    def _as_read(self, name: str, task: BuiltTask) -> BuiltTask:
        """The task for the objective: its hard loss is over whole steps if the student reads rows so."""
        form = self.plan.spec.models[self.stage.student].form(self.plan.context(self.stage.student))
        if task.across_steps and self.plan.spec.tasks[name].hard_scope(form) != "step":
            task = WrappedTask(task)
            task.across_steps = False
        return task

    def trainable(self, student: nn.Module, matches: tuple[PlannedMatch, ...]) -> TrainableModule:
        """The student with the strategy's objective, on the device and in the student's type."""
        context = ObjectiveContext(
            folder=self.plan.source.folder,
            seed=self.seed,
            tasks={name: self._as_read(name, task) for name, task in self.tasks.items()},
            matches=matches,
            facts=self.plan.facts,
        )
        with isolated_random():
            # Projections are initialised from the seed alone, whatever random numbers were used before.
            reseed(fold(self.seed, "objective"), 0, 0, 0)
            name = self.stage.distiller.name
            with error_context(self.path, f"the objective of `{name}`"):
                objective = self.stage.distiller.build(context)
                if not isinstance(objective, Objective):
                    raise TypeError(f"`build` returned a {type(objective).__name__}, not a `kdspec.Objective`")
                parts = (part for part in objective.modules() if isinstance(part, Objective))
                if any(part.compares_steps for part in parts) and not objective.compares_steps:
                    raise TypeError(
                        "a part has terms over whole steps; forward its `compares_steps`, `views` and `relate`"
                    )
        trainable = TrainableModule(student, objective)
        dtype = next((p.dtype for p in student.parameters() if p.is_floating_point()), None)
        placed(trainable.objective, self.device, dtype)
        return trainable
