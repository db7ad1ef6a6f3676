"""Evaluates the student of a stage on the validation rows, and tracks the best model so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kdspec.api.plan.plan import Feature, Plan, StagePlan
from kdspec.api.working.evaluator import LOSS, Evaluator
from kdspec.api.working.step import Features
from kdspec.api.working.task import BuiltTask
from kdspec.data.answers.beside_teacher import DIVERGENCE
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.evaluation.teacher_answers import TeacherAnswers
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.events import Evaluated
from kdspec.planning.feature_reader import locate
from kdspec.source.read_back import Count, Seconds

MEAN = "mean"
"""The name of the mean of the tasks' primary metrics."""


@dataclass
class EvaluationProgress:
    """The progress of a stage, saved with every checkpoint."""

    step: Count = 0
    best_step: Count | None = None
    best_metrics: dict[str, float] | None = None
    without_better: Count = 0
    """Consecutive evaluations without a better value of the metric; an equal one is not better."""
    evaluates: bool = False
    """Whether `step` is still to be evaluated: it is saved before, so that a start after a kill evaluates it first."""
    seconds: Seconds = 0.0
    """Training time so far, over all starts of the run."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedTask:
    """One task of a stage, for evaluation.

    `forward` is the student with the features that evaluation reads, `loader` has the validation rows.
    """

    task: str
    built: BuiltTask
    forward: ModelRunner
    loader: Loader
    evaluator: Evaluator
    beside: TeacherAnswers | None = None
    """The answers of its teachers, if no validation row has a label: the metrics are measured beside them."""

    @property
    def own(self) -> str:
        """The task's primary metric, or the loss."""
        return self.evaluator.primary.name

    @property
    def tie(self) -> str:
        """The metric that is lower for the better one of students with equal values: the loss, or the divergence from a teacher."""
        return LOSS.name if self.beside is None else DIVERGENCE

    @property
    def all_labelled(self) -> bool:
        """Whether the metrics count every validation row."""
        return self.built.labelled("validation") == self.built.rows("validation")

    def higher(self, metric: str) -> bool:
        """Whether a higher value of a metric is better."""
        return self.evaluator.metric(metric).higher_is_better


class BestModelTracker:
    """Evaluates one stage's student.

    With several tasks each metric has the name of its task too, as `topics.accuracy`; `mean` is the mean of the tasks' primary
    metrics. All processes call it, because they share the batches. `through` runs a forward pass.
    """

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        tasks: Sequence[EvaluatedTask],
        process_group: ProcessGroup | None = None,
        through: Callable[[Callable[[], Features]], Features] = lambda work: work(),
    ) -> None:
        self.plan, self.stage, self.tasks, self.process_group, self.through = plan, stage, tasks, process_group, through
        assert stage.training.evaluate is not None, "a stage without evaluation has no best model"
        self.written = stage.training.evaluate.metric

    def check(self) -> None:
        """Check before training that the metric in the spec exists.

        Raises:
            FindingError: KD502.
        """
        if self.metric == MEAN and self.stage.several:
            self._check_mean()
        elif self.written is not None and (
            self.stage.several or self.written != self.tasks[0].own or self.written == LOSS.name
        ):
            self._value(self._metrics(few=True))

    def __call__(self, progress: EvaluationProgress) -> Evaluated:
        """Evaluate the student and record the result in `progress`.

        Of students with equal values of the metric, the one with the lower loss is the best, and of equal losses the later
        one. Validation rows are often few, so that a metric such as accuracy has few values.
        """
        metrics = self._metrics()
        value = self._value(metrics)
        # From all metrics of the best model, because a changed spec may select by another metric.
        best = None if progress.best_metrics is None else self._value(progress.best_metrics)
        # A NaN is never the best: comparisons with NaN are False, so that it would also never be replaced.
        better = not math.isnan(value) and (best is None or (value > best if self._higher() else value < best))
        progress.without_better = 0 if better else progress.without_better + 1
        chosen = better or (value == best and not self._loss(metrics) > self._loss(progress.best_metrics or {}))
        if chosen:
            progress.best_step, progress.best_metrics = progress.step, metrics
        progress.evaluates = False
        student = self.stage.student
        lower = not self._higher()
        return Evaluated(self.stage.name, progress.step, "validation", student, metrics, chosen, self.metric, lower)

    def _loss(self, metrics: Mapping[str, float]) -> float:
        """The loss that breaks ties: of the task of the metric, or the mean over tasks; NaN where it is not known."""
        own = self._owner()
        tasks = self.tasks if own is None else [own]
        names = (f"{each.task}.{each.tie}" if self.stage.several else each.tie for each in tasks)
        return sum(metrics.get(name, math.nan) for name in names) / len(tasks)

    @property
    def metric(self) -> str:
        """The metric for model selection: that of the spec, else the task's primary metric or the mean over tasks."""
        if self.written is None:
            return MEAN if self.stage.several else self.tasks[0].own
        own = self._owner(self.written)
        if own is None:
            return self.written
        task = f"{own.task}." if self.stage.several else ""
        return f"{task}{own.evaluator.metric(self.written.removeprefix(task)).name}"

    def _metrics(self, *, few: bool = False) -> dict[str, float]:
        rows = self.stage.training.batch_size
        found: dict[str, float] = {}
        own = []
        for each in self.tasks:
            # The first rows may be those without a label.
            some = range(min(each.loader.rows, rows)) if few and each.all_labelled else None
            outcome = evaluate(
                each.forward,
                each.built,
                each.loader,
                rows,
                some,
                evaluator=each.evaluator,
                process_group=self.process_group,
                through=self.through,
            )
            metrics = outcome.metrics if each.beside is None else each.beside.beside(outcome)
            found |= {f"{each.task}.{name}" if self.stage.several else name: value for name, value in metrics.items()}
            own.append(metrics.get(each.own, math.nan))
        if self.stage.several:
            found[MEAN] = sum(own) / len(own)
        return found

    def _higher(self) -> bool:
        if (own := self._owner()) is None:
            return self.tasks[0].higher(self.tasks[0].own)  # the mean: all its metrics have the same direction
        return own.higher(self.metric.removeprefix(f"{own.task}.") if self.stage.several else self.metric)

    def _owner(self, metric: str | None = None) -> EvaluatedTask | None:
        """The task of a metric, by default of that for model selection; None for the mean of several tasks."""
        metric = metric or self.metric
        # The longest name first: `a.b` and `a` may both be tasks.
        for each in sorted(self.tasks, key=lambda each: -len(each.task)):
            if not self.stage.several or metric.startswith(f"{each.task}."):
                return each
        return None

    def _check_mean(self) -> None:
        rising = {each.higher(each.own) for each in self.tasks}
        if len(rising) < 2:
            return
        label = Mark(("stages", self.stage.name, "training", "evaluate"), "by the mean of the tasks'", key=True)
        notes = tuple(
            f"`{each.own}` of `{each.task}`: {'higher' if each.higher(each.own) else 'lower'} is better"
            for each in self.tasks
        )
        message = f"the metrics of the tasks of stage `{self.stage.name}` have no mean"
        help_ = f"name the metric for model selection: `evaluate: {{metric: {self.tasks[0].task}.{self.tasks[0].own}}}`"
        raise FindingError(Finding("KD502", message, *label, notes=notes, help=help_))

    def _value(self, metrics: Mapping[str, float]) -> float:
        name = self.metric
        if name in metrics:
            return metrics[name]
        at = ("stages", self.stage.name, "training", "evaluate", "metric")
        known = ", ".join(f"`{key}`" for key in metrics) or "none"
        near = closest(name, list(metrics))
        question = f"did you mean `{near}`?" if near else None
        if near is None and all(each.beside is not None for each in self.tasks):
            question = "no row of `validation` has a label: these metrics are measured beside the teacher"
        elif not metrics:
            question = "metrics need labels: do the rows of `validation` have any?"
        owner = f"stage `{self.stage.name}`" if self.stage.several else f"task `{self.tasks[0].task}`"
        raise FindingError(
            Finding(
                "KD502",
                f"{owner} has no metric `{name}`",
                at,
                notes=(f"there are: {known}",),
                help=question,
                fix=(name, near) if near and self.written else None,
            )
        )


def evaluated_features(plan: Plan, model: str, task: str, evaluator: Evaluator) -> dict[str, Feature]:
    """The features that evaluation reads: those of the evaluator, and a loss that the model itself returns and trains on.

    Empty if there is nothing to evaluate. A task without labels is evaluated if its evaluator has a metric besides the loss.
    """
    of_form = evaluator.of_form.get(plan.spec.models[model].form(plan.context(model)), ()) if evaluator.of_form else ()
    found = locate(plan.spec, model, task, tuple(sorted({*evaluator.reads, *evaluator.optional, *of_form, "losses"})))
    has_metrics = plan.spec.tasks[task].has_labels() or evaluator.primary.name != LOSS.name
    known = evaluator.reads <= found.keys() and has_metrics
    tasks = (stage.tasks[task] for stage in plan.stages if task in stage.tasks)
    own = any("losses" in each.features[model] for each in tasks if model in each.models)
    if not own or (known and plan.spec.tasks[task].head is not None):
        found.pop("losses", None)
    return found if known or "losses" in found else {}
