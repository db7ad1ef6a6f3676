"""The judge of a stage: evaluates the student on the validation rows and tells whether it is the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kdspec.diagnostics import Diagnostic, DiagnosticError, Edit, closest
from kdspec.engine.evaluation import evaluate
from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward
from kdspec.events import Evaluated
from kdspec.fieldpath import parse
from kdspec.kinds import BuiltTask
from kdspec.plan import Feature, Plan, PlannedStage, locate


@dataclass
class Progress:
    """What a stage has reached, beside the weights; saved with every checkpoint."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    best_metrics: dict[str, float] | None = None
    without_better: int = 0
    """Evaluations in a row that brought nothing better."""
    seconds: float = 0.0
    """How long it took to come here, in all starts of the run together."""


class Judge:
    """Evaluates one stage's student.

    Args:
        plan: the plan.
        stage: the stage.
        task: its task.
        forward: the student with the features that `judging` names.
        feed: the validation rows.
    """

    def __init__(self, plan: Plan, stage: PlannedStage, task: BuiltTask, forward: Forward, feed: Feed) -> None:
        self.plan, self.stage, self.task, self.forward, self.feed = plan, stage, task, forward, feed
        assert stage.training.evaluate is not None, "a stage that never evaluates needs no judge"
        self.written = stage.training.evaluate.metric

    def check(self) -> None:
        """Find out whether the task has the metric that the spec names, while nothing has been trained yet.

        Raises:
            DiagnosticError: KD502.
        """
        if self.written is None or self.written == self.task.metric:
            return
        rows = range(min(self.feed.rows, self.stage.training.batch_size))
        self._value(evaluate(self.forward, self.task, self.feed, len(rows), rows).metrics)

    def __call__(self, progress: Progress) -> Evaluated:
        """Evaluate the student and take down in `progress` what came out."""
        metrics = evaluate(self.forward, self.task, self.feed, self.stage.training.batch_size).metrics
        value, best = self._value(metrics), progress.best_value
        # A metric that is no number is never the best.
        better = not math.isnan(value) and (best is None or (value > best if self._higher() else value < best))
        if better:
            progress.best_step, progress.best_value, progress.best_metrics = progress.step, value, metrics
        progress.without_better = 0 if better else progress.without_better + 1
        return Evaluated(self.stage.name, progress.step, "validation", self.forward.name, metrics, better)

    @property
    def metric(self) -> str:
        """The metric that chooses: the one of the spec, the task's own, or the loss."""
        return self.written or self.task.metric or "loss"

    def _higher(self) -> bool:
        return self.metric != "loss" and self.metric not in self.task.lower_is_better

    def _value(self, metrics: Mapping[str, float]) -> float:
        name = self.metric
        if name in metrics:
            return metrics[name]
        label = self.plan.spec.label(("stages", self.stage.name, "training", "evaluate", "metric"))
        known = ", ".join(f"`{key}`" for key in metrics) or "none"
        near = closest(name, list(metrics))
        raise DiagnosticError(
            Diagnostic(
                "KD502",
                f"task `{self.stage.tasks[0]}` has no metric `{name}`",
                label,
                notes=(f"there are: {known}",),
                help=f"did you mean `{near}`?" if near else None,
                edit=Edit(label.span, near) if near and self.written else None,
            )
        )


def judging(plan: Plan, model: str, task: str) -> dict[str, Feature]:
    """The features that evaluation reads: logits and labels, and the loss that a model makes itself and learns from.

    Empty where there is nothing to judge by.
    """
    found = locate(plan.spec, model, task, ("logits", "logits_mask", "labels", "losses"))
    default = plan.spec.tasks[task].adaptor().get("labels")
    if "labels" not in found and default is not None:  # a teacher learns from none, so its adaptor may have none
        texts = default if isinstance(default, list) else [default]
        paths = tuple(map(parse, texts))
        found["labels"] = Feature(name="labels", paths=paths, several=isinstance(default, list))
    both = "logits" in found and "labels" in found
    own = any("losses" in stage.features[model] for stage in plan.stages if model in stage.models)
    if not own or (both and plan.spec.tasks[task].head is not None):
        found.pop("losses", None)
    return found if both or "losses" in found else {}
