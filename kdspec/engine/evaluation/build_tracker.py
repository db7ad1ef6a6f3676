"""Builds what evaluates the student of a stage on the validation rows of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.best_model import BestModelTracker, EvaluatedTask, evaluated_features
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.evaluation.teacher_answers import TeacherAnswers
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import Note


def build_tracker(
    plan: Plan, loop: TrainingLoop, tasks: Mapping[str, BuiltTask], loader: Callable[[TaskPlan, str, str], Loader]
) -> tuple[BestModelTracker | None, tuple[Note, ...]]:
    """The tracker of the best student, None if there is nothing to evaluate on; and notes on tasks that it leaves out.

    Args:
        plan: the plan.
        loop: the stage, whose student is evaluated.
        tasks: the tasks by name.
        loader: the rows of a task and a split, for a model.
    """
    stage = loop.stage
    if stage.training.evaluate is None:
        return None, ()
    evaluated, notes = [], []
    for part in stage.tasks.values():
        task = tasks[part.task]
        beside = None if task.labelled("validation") else _beside(plan, loop, part, task, loader)
        evaluator = task.evaluator("validation") if beside is None else beside.evaluator
        features = evaluated_features(plan, stage.student, part.task, evaluator)
        if not (features and (task.labelled("validation") or beside is not None)):
            empty = features and not task.rows("validation")
            notes.append(_left_out(stage, part, "no validation rows" if empty else "no labels to evaluate on"))
            continue
        trained = loop.inputs_of[part.task].student
        # Another runner of the same module: training and evaluation read different features.
        forward = ModelRunner(
            ModelFindings(plan.spec, stage.student, part.task), trained.module, features,
            chooses=trained.accepted is not None,
            # The weights of a sharded model are whole during its forward pass only, so its head cannot run later.
            head=None if loop.backend.divided else trained.head,
        )  # fmt: skip
        rows = loader(part, "validation", stage.student)
        evaluated.append(
            EvaluatedTask(task=part.task, built=task, forward=forward, loader=rows, evaluator=evaluator, beside=beside)
        )
    if not evaluated:
        return None, tuple(notes)
    through = partial(loop.backend.evaluate, loop.trainable)
    return BestModelTracker(plan, stage, evaluated, loop.backend.process_group, through), tuple(notes)


def _beside(
    plan: Plan,
    loop: TrainingLoop,
    part: TaskPlan,
    task: BuiltTask,
    loader: Callable[[TaskPlan, str, str], Loader],
) -> TeacherAnswers | None:
    """The answers of the task's teachers to validation rows without labels; None if there are none to compare."""
    evaluator = task.beside_teacher("validation") if task.rows("validation") and part.teachers else None
    if evaluator is None:
        return None
    found = []
    for name, taught in loop.inputs_of[part.task].teachers.items():
        features = evaluated_features(plan, name, part.task, evaluator)
        if not features:
            return None
        findings = ModelFindings(plan.spec, name, part.task)
        forward = ModelRunner(findings, taught.module, features, chooses=taught.accepted is not None)
        found.append(
            partial(
                evaluate, forward, task, loader(part, "validation", name), loop.stage.training.batch_size,
                evaluator=evaluator, process_group=loop.backend.process_group,
            )
        )  # fmt: skip
    changing = any(name in loop.stage.needs.changing for name in part.teachers)
    return TeacherAnswers(evaluator, found, part.needs.mixture, loop.backend.process_group, changing)


def _left_out(stage: StagePlan, part: TaskPlan, why: str) -> Note:
    if stage.several:
        text = f"task `{part.task}` of stage `{stage.name}` has {why}: it is ignored when selecting the best model"
    else:
        also = ", and it does not stop early" if stage.training.early_stopping else ""
        text = f"stage `{stage.name}` has {why}: the last state of `{stage.student}` is kept{also}"
    return Note("info", text)
