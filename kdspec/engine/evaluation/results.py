"""The table at the end of a run: quality, size and speed of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from kdspec.api.plan.plan import Plan, TaskPlan
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.task import BuiltTask, Reader
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.answered_rows import ComparedRows
from kdspec.engine.evaluation.best_model import evaluated_features
from kdspec.engine.evaluation.calibrate import Uncalibrated, scaling_of
from kdspec.engine.evaluation.evaluate import Outcome, evaluate, latency
from kdspec.engine.evaluation.result_row import ResultRow, RowCalibration, RowReliability
from kdspec.engine.evaluation.row_errors import row_errors
from kdspec.engine.evaluation.splits import table_split
from kdspec.engine.export import model_folder
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.large_head import large_head
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import Backend

BATCH = 64


def table(
    plan: Plan, models: Models, tasks: Mapping[str, BuiltTask], backend: Backend,
    calibrated: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> tuple[ResultRow, ...]:  # fmt: skip
    """Evaluate every model of the run on the test rows, or on the validation rows if no test row has a label.

    Several processes share the work; only the table of the main one is complete.

    Args:
        plan: the plan.
        models: the models, as trained.
        tasks: the tasks by name.
        backend: where to compute.
        calibrated: what the last stage of each student has fitted, by student and task.
    """
    answered = ComparedRows(_references(plan))
    rows: list[ResultRow] = []
    references_of: dict[str, tuple[Reader, Sequence[State]]] = {}
    """For each task the reader of its reference model, and the states of that model."""
    parts = {part.task: part for part in _tasks(plan) if part.teachers}
    answers: dict[str, dict[str, Sequence[State]]] = {}
    """For each task whose rows have no label the states of all models, which are compared when all are known."""
    for name, task_name in in_order(plan):
        task = tasks[task_name]
        split = table_split(task)
        has_weights = plan.spec.models[name].has_weights
        teaches = has_weights and any(name in stage.teachers for stage in plan.stages)
        divided = backend.divides_teachers and teaches
        models.prepared(name, torch.device("cpu") if divided else backend.device, trains=False, eager=False)
        module = models.view(name, task_name)
        if divided:
            backend.divide(module)
        metrics: dict[str, float] = {}
        taught = parts.get(task_name) if split is not None and not task.labelled(split) else None
        beside = None if taught is None or split is None else task.beside_teacher(split)
        evaluator = beside or task.evaluator(split or "validation")
        time_of_one = agreement = agrees_on = confidence = calibration = errors = None
        fitted = None if beside is not None else calibrated.get(name, {}).get(task_name)
        if split is not None:
            reader = models.reader(name)
            features = evaluated_features(plan, name, task_name, evaluator)
            forward = ModelRunner(
                ModelFindings(plan.spec, name, task_name), module, features, chooses=reader.tokenizer is not None,
                head=None if divided else large_head(plan.spec.models[name], module, models.context(name)),
            )  # fmt: skip
            loader = Loader(task, split, {name: reader}, device=backend.device)
            if features:
                evaluated = partial(
                    evaluate, forward, task, loader, BATCH, evaluator=evaluator, process_group=backend.process_group
                )
                outcome, compared = answered.outcomes(evaluated, (task_name, task), loader, name)
                metrics = outcome.metrics
                its, states = references_of.get(task_name, (reader, None))
                # Tokens correspond only between models with the same reader.
                if states and compared.states and (its == reader or not evaluator.agrees_by_token):
                    agreement = evaluator.agreement(compared.states, states)
                    agrees_on = evaluator.agrees_on if agreement is not None else None
                if beside is not None:
                    answers.setdefault(task_name, {})[name] = compared.states
                elif states and compared.states:
                    metrics = {**metrics, **evaluator.beside(compared.states, states)}
                confidence = _reliability(evaluator, outcome.states, states or ())
                errors = row_errors(evaluator, task, split, outcome.states, _taught_by(plan, name, states))
                if name == answered.references.get(task_name) and outcome.states:
                    references_of[task_name] = (reader, outcome.states)
                if fitted is not None:
                    former = Uncalibrated(evaluator, scaling_of(fitted["values"]))
                    calibration = _before(
                        fitted, evaluate(forward, task, loader, BATCH, evaluator=former, process_group=backend.process_group),
                        former,
                    )  # fmt: skip
            time_of_one = 1000 * latency(forward, loader) if has_weights else None
        rows.append(
            ResultRow(
                model=name,
                role=role(plan, name),
                task=task_name,
                split=split or "",
                agreement=agreement,
                agrees_on=agrees_on,
                metrics=metrics,
                parameters=count(module) if has_weights else None,
                bytes=_saved(models, name, task_name) or _loaded(models, name) or _bytes(module)
                if has_weights
                else None,
                latency_ms=time_of_one,
                lower_is_better=[each for each in metrics if not evaluator.metric(each).higher_is_better],
                selected_by=evaluator.metric(_selected_by(plan, name, task_name) or evaluator.primary.name).name,
                rows=task.rows(split) if split else 0,
                labelled=task.labelled(split) if split else 0,
                calibration=calibration,
                confidence=confidence,
                errors=errors,
            )
        )
    every = {row.task: tasks[row.task].beside_teacher(row.split) for row in rows if row.task in answers}
    return tuple(
        row
        if (found := every.get(row.task)) is None
        else _beside(row, parts[row.task], tasks[row.task], answers[row.task], found)
        for row in rows
    )


def _beside(
    row: ResultRow, part: TaskPlan, task: BuiltTask, answers: Mapping[str, Sequence[State]], evaluator: Evaluator
) -> ResultRow:
    """The row of a model with its metrics beside the teachers of its task; a teacher alone has none beside itself."""
    states = answers.get(row.model, ())
    theirs = [answers.get(name, ()) for name in part.teachers]
    if part.teachers == (row.model,) or not states or not all(theirs):
        return row
    joined = evaluator.joined(theirs, part.needs.mixture)
    metrics = dict(evaluator.beside(states, joined))
    lower = [name for name in metrics if not evaluator.metric(name).higher_is_better]
    return replace(
        row, metrics={**row.metrics, **metrics}, lower_is_better=lower, beside=list(part.teachers),
        errors=row_errors(evaluator, task, row.split, states, joined) if row.role == "student" else None,
    )  # fmt: skip


def _taught_by(plan: Plan, name: str, reference: Sequence[State] | None) -> Sequence[State]:
    """The states of the reference model for a student of it; none for other models."""
    return reference if reference and role(plan, name) == "student" else ()


def _reliability(evaluator: Evaluator, states: Sequence[State], reference: Sequence[State]) -> RowReliability | None:
    found = evaluator.reliability(states, reference) if states else {}
    return RowReliability(**found) if found else None


def _before(fitted: Mapping[str, Any], outcome: Outcome, former: Evaluator) -> RowCalibration:
    """What a calibration was, with the answers before it."""
    known = _reliability(former, outcome.states, ())
    return RowCalibration(fitted["method"], fitted["values"], outcome.metrics, None if known is None else known.bins)


def named(rows: Sequence[ResultRow]) -> dict[str, dict[str, object]]:
    """The rows by the name of the model, without texts of the data; where it has several tasks, by `model.task`."""
    models = [row.model for row in rows]
    return {
        row.model if models.count(row.model) == 1 else f"{row.model}.{row.task}": {
            name: value for name, value in asdict(row).items() if name != "errors"
        }
        for row in rows
    }


def _references(plan: Plan) -> dict[str, str]:
    """For each task the teacher with which the others are compared: the first one of the last stage with teachers."""
    return {each.task: each.teachers[0] for each in _tasks(plan) if each.teachers}


def in_order(plan: Plan) -> list[tuple[str, str]]:
    """Models with their tasks: the last reference first, then other teachers, then students by their stages."""
    references = _references(plan)
    tasks = _tasks(plan)
    distilled_last = next((stage for stage in reversed(plan.stages) if stage.teachers), None)
    last = () if distilled_last is None else distilled_last.tasks.values()
    first = [references[each.task] for each in last if each.teachers]
    teachers = [name for each in tasks for name in each.teachers]
    students = [each.student for each in tasks]
    distilled = [each.student for each in tasks if each.teachers]
    names = dict.fromkeys((*first, *teachers, *distilled, *students))
    return [(name, task) for name in names for task in plan.tasks_of[name]]


def role(plan: Plan, name: str) -> str:
    """`teacher`, `student`, `baseline` for a student trained without distillation, or `trained` in a run without any."""
    tasks = _tasks(plan)
    if not any(each.teachers for each in tasks):
        return "trained"
    if any(name in each.teachers for each in tasks):
        return "teacher"
    distilled = any(each.student == name and each.teachers for each in tasks)
    return "student" if distilled else "baseline"


def _selected_by(plan: Plan, name: str, task: str) -> str | None:
    """The metric of the task that the spec names for the last stage that trains the model; None for the task's own."""
    stages = [stage for stage in plan.stages if stage.student == name and task in stage.tasks]
    evaluation = stages[-1].training.evaluate if stages else None
    written = None if evaluation is None else evaluation.metric
    if written is None or not stages[-1].several:
        return written
    return written.removeprefix(f"{task}.") if written.startswith(f"{task}.") else None  # of another task, or the mean


def _tasks(plan: Plan) -> list[TaskPlan]:
    """The tasks of all stages, in order."""
    return [task for stage in plan.stages for task in stage.tasks.values()]


def _saved(models: Models, name: str, task: str) -> int:
    """Bytes on disk of a trained model with the head for a task; 0 for an untrained one."""
    if name not in models.trained:
        return 0
    of_task = models.trained[name] / task
    return model_folder.size(
        of_task if len(models.plan.tasks_of[name]) > 1 and of_task.is_dir() else models.trained[name]
    )


def _loaded(models: Models, name: str) -> int:
    """Bytes of the files that an untrained model was loaded from; 0 if it has none."""
    with error_context(models.path(name), f"model `{name}`"):
        return sum(file.stat().st_size for file in models.plan.spec.models[name].weight_files(models.context(name)))


def count(module: nn.Module) -> int:
    """The number of its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
