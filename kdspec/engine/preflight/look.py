"""Preflight: at its rows, and at its models on real rows; once for each content."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.working.task import BuiltTask
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.forward import batch_invariance
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.trained_heads import trained_heads
from kdspec.engine.preflight import earlier_looks
from kdspec.engine.preflight.answers import answers
from kdspec.engine.preflight.facts import AloneFacts, AnswerFacts, SeenModel, TaskFacts, as_data, dumps, loads
from kdspec.engine.preflight.findings import of_models, of_rows
from kdspec.engine.preflight.rows import splits_of, task_facts
from kdspec.engine.preflight.teacher_scores import score_facts
from kdspec.engine.processes.backend import Backend
from kdspec.engine.step.task_inputs import TaskInputs
from kdspec.events import Note, Preflight

_LABELLED = ("validation", "train")
"""Where labelled rows are looked for, in this order."""


@dataclass(frozen=True)
class Looked:
    """What a look has found, and what users should know of it."""

    event: Preflight
    notes: tuple[Note, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Looks at the rows and the models of a stage, as they are before its first step.

    All processes call it. Rank 0 looks for all, unless the teachers' weights are divided among them. Models, generators of
    random numbers and the rows of training are as before.
    """

    plan: Plan
    stage: StagePlan
    models: Models
    tasks: Mapping[str, BuiltTask]
    backend: Backend

    def __call__(self, by_task: Mapping[str, TaskInputs]) -> Looked:
        """Look, or read what an earlier look has found at the same rows and models.

        Args:
            by_task: the models and the training rows of each task of the stage.

        Raises:
            FindingError: KD517 if answers of a model depend on the batch, KD518 if a teacher is no better than chance; with
                the warnings.
        """
        began = time.perf_counter()
        group, divided = self.backend.process_group, self.backend.divides_teachers
        loaders = {name: self._loaders(name, task_inputs) for name, task_inputs in by_task.items()}
        key = self._key(by_task, loaders) if group.is_main and not divided else None
        earlier = None if key is None else earlier_looks.read(key)
        text = group.share(None if earlier is None else dumps(earlier).decode())
        cached = text is not None
        if text is None:
            if group.is_main or divided:
                found = tuple(self._facts(name, by_task[name], loaders[name]) for name in by_task)
                text = dumps(found).decode()
                if key is not None:
                    earlier_looks.write(key, found)
            text = group.share(text)
        facts = loads(text.encode())
        notes = self._notes(facts)
        return Looked(
            Preflight(
                stage=self.stage.name, cached=cached, seconds=time.perf_counter() - began,
                tasks=json.loads(json.dumps(as_data(facts))),
            ),
            notes,
        )  # fmt: skip

    def _notes(self, facts: tuple[TaskFacts, ...]) -> tuple[Note, ...]:
        """What is not an error, as notes."""
        findings = [
            *(found for each in facts for found in of_models(self.plan, self.stage, each)),
            *(found for each in facts if self._is_first_of(each.task) for found in of_rows(self.plan, each)),
        ]
        if errors := [found for found in findings if found.severity == "error"]:
            raise FindingError(*errors, *(found for found in findings if found.severity != "error"))
        return tuple(map(_note, findings))

    def _is_first_of(self, task: str) -> bool:
        """Whether no earlier stage has the task, so that its rows are reported once."""
        return next(stage.name for stage in self.plan.stages if task in stage.tasks) == self.stage.name

    def _loaders(self, name: str, task_inputs: TaskInputs) -> dict[str, Loader]:
        """The rows of each split as the models of the stage read them."""
        task, train = self.tasks[name], task_inputs.loader
        others = [split for split in splits_of(task) if split != "train"]
        return {"train": train} | {
            split: Loader(task, split, train.readers, device=self.backend.device) for split in others
        }

    def _facts(self, name: str, task_inputs: TaskInputs, loaders: Mapping[str, Loader]) -> TaskFacts:
        task, part = self.tasks[name], self.stage.tasks[name]
        facts = task_facts(name, task, loaders)
        if not part.needs.unlabelled:  # the stage does not train on them
            facts = replace(facts, splits={split: of for split, of in facts.splits.items() if split != "unlabelled"})
        runners = {task_inputs.student.name: task_inputs.student, **task_inputs.teachers}
        looked = {model: self._model(part, runner, loaders, facts) for model, runner in runners.items()}
        return replace(facts, models=looked)

    def _model(self, part: TaskPlan, runner: ModelRunner, loaders: Mapping[str, Loader], facts: TaskFacts) -> SeenModel:
        left_out = []
        alone = _alone(part.task, runner, loaders["train"]) if runner.features else None
        if alone is None:
            left_out.append("rows alone and together: all have the same length, or nothing of the model is compared")
        teaches = runner.name in part.teachers and runner.features.keys() & {"logits", "losses"}
        asked: AnswerFacts | str | None = None
        if teaches:
            split = next((each for each in _LABELLED if each in facts.splits and facts.splits[each].labelled), "train")
            asked = answers(self.plan, part.task, self.tasks[part.task], runner, loaders[split])
        scores = None
        if teaches and not self._planned(part, runner.name):
            scores = score_facts(self.plan, part, self.tasks[part.task], runner, loaders["train"])
        if isinstance(asked, str):
            left_out.append(f"its answers: {asked}")
        return SeenModel(
            loaded=self._loaded(runner.name, part.task),
            alone=alone,
            answers=asked if isinstance(asked, AnswerFacts) else None,
            scores=scores,
            left_out=tuple(left_out),
        )

    def _planned(self, part: TaskPlan, teacher: str) -> bool:
        """Whether the plan has looked at the teacher's scores, which are recorded in the rows."""
        if self.plan.spec.models[teacher].has_weights:
            return False
        return self.plan.spec.tasks[part.task].first_answers(self.plan.context(teacher), 1) is not None

    def _loaded(self, name: str, task: str) -> bool:
        in_files = any(head.model == name for head in trained_heads(self.plan, task))
        return in_files and name not in self.models.trained and not self.models.initialised.get(name)

    def _key(self, by_task: Mapping[str, TaskInputs], loaders: Mapping[str, Mapping[str, Loader]]) -> str | None:
        """The key of the look; None if some rows have no digest."""
        modules: dict[str, nn.Module] = {}
        features = {}
        for name, task_inputs in by_task.items():
            for runner in (task_inputs.student, *task_inputs.teachers.values()):
                modules[f"{name}.{runner.name}"] = runner.module
                paths = {key: list(map(str, feature.paths)) for key, feature in runner.features.items()}
                features[f"{name}.{runner.name}"] = [paths, str(runner.arithmetic), self._loaded(runner.name, name)]
        rows = {
            name: [earlier_looks.digest(self.tasks[name], loader) for loader in of.values()]
            for name, of in loaders.items()
        }
        known = {name: [each for each in of if each is not None] for name, of in rows.items()}
        if known != rows:
            return None
        settings = {
            "seed": self.plan.spec.seed,
            "device": self.backend.device.type,
            "precision": self.stage.training.precision,
            "features": features,
            "tasks": {name: repr(self.plan.spec.tasks[name]) for name in by_task},
            "logits": {name: repr(sorted(self.stage.tasks[name].needs.logits.items())) for name in by_task},
            "classes": {name: self.tasks[name].head.labels for name in by_task},
            "adaptors": {name: repr(self.plan.spec.adaptors.get(name)) for name in self.stage.models},
            "sides": {
                model: str(vars(loader.readers[model].tokenizer).get("padding_side")) if loader.readers[model].tokenizer else ""
                for of in loaders.values() for loader in of.values() for model in loader.readers
            },
        }  # fmt: skip
        return earlier_looks.key(settings, modules, known)


def _alone(task: str, runner: ModelRunner, loader: Loader) -> AloneFacts | None:
    """A row of a model alone and beside longer ones; None if there is nothing to compare."""
    found = batch_invariance.measure(runner, loader)
    if found is None:
        return None
    size = min(found.size, 1e9)  # JSON has no infinity
    if not found.exceeds:
        return AloneFacts(difference=size, allowed=found.allowed)
    refused = batch_invariance.refused(task, runner, loader, found)
    return AloneFacts(
        difference=size,
        allowed=found.allowed,
        message=refused.message,
        notes=refused.notes,
        help=refused.help or "",
    )


def _note(finding: Finding) -> Note:
    return Note("warning" if finding.severity == "warning" else "info", finding.line)
