"""Builds what evaluates the student of a stage on the validation rows of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.best_model import BestModelTracker, EvaluatedTask, evaluated_features
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
        evaluator = task.evaluator("validation")
        features = evaluated_features(plan, stage.student, part.task, evaluator)
        if not (features and task.labelled("validation")):
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
        evaluated.append(EvaluatedTask(task=part.task, built=task, forward=forward, loader=rows, evaluator=evaluator))
    if not evaluated:
        return None, tuple(notes)
    through = partial(loop.backend.evaluate, loop.trainable)
    return BestModelTracker(plan, stage, evaluated, loop.backend.process_group, through), tuple(notes)


def _left_out(stage: StagePlan, part: TaskPlan, why: str) -> Note:
    if stage.several:
        text = f"task `{part.task}` of stage `{stage.name}` has {why}: it is ignored when selecting the best model"
    else:
        also = ", and it does not stop early" if stage.training.early_stopping else ""
        text = f"stage `{stage.name}` has {why}: the last state of `{stage.student}` is kept{also}"
    return Note("info", text)
