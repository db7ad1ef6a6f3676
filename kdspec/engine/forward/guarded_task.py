"""A wrapper of a task: exceptions of its methods become findings at its place in the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from kdspec.api.kinds.context import FrozenModels, TaskContext
from kdspec.api.plan.plan import Plan
from kdspec.api.spec.spec import Spec
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.task import BuiltTask, Reader, Row, WrappedTask
from kdspec.diagnostics.finding import Finding, of_fault
from kdspec.engine.batches.columnar import packed
from kdspec.engine.batches.recorded_answers import recorded_columns, recorded_teachers, with_answers
from kdspec.engine.forward.error_context import FEWER_ROWS, Asks, error_context
from kdspec.engine.forward.trained_heads import trained_heads

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.plan.mixture import Mixture
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.pieces import Pieces
    from kdspec.api.working.row_answers import RowAnswers
    from kdspec.api.working.standalone import Standalone
    from kdspec.api.working.step import Features, View
    from kdspec.ops.mean import Mean, Unit


def untold(finding: Finding) -> None:
    """Drop a warning that another command reports."""
    del finding


def built(
    plan: Plan, name: str, tell: Callable[[Finding], None] = untold, frozen: FrozenModels | None = None
) -> GuardedTask:
    """A task of a plan, built and guarded; `tell` gets its warnings and notes about rows, `frozen` has the models for it."""
    component = plan.spec.tasks[name]
    at = ("tasks", name, component.name)
    teachers = recorded_teachers(plan, name)
    context = TaskContext(
        folder=plan.source.folder,
        seed=plan.spec.seed,
        heads=tuple(trained_heads(plan, name)),
        reads_labels=any(stage.tasks[name].needs.reads_labels for stage in plan.stages if name in stage.tasks),
        tell=lambda fault: tell(
            replace(of_fault(fault, at), severity="note" if fault.severity == "note" else "warning")
        ),
        recorded=recorded_columns(teachers),
        frozen=frozen,
    )
    with error_context(at, f"task `{name}`", Asks(f"the rows of task `{name}`", FEWER_ROWS)):
        task = component.build(context)
        task = with_answers(plan, name, task, teachers, tell)
    return GuardedTask(plan.spec, name, task)


class GuardedTask(WrappedTask):
    """The same task; an exception of its methods becomes a finding about task `name`."""

    def __init__(self, spec: Spec, name: str, task: BuiltTask) -> None:
        super().__init__(task)
        self._ahead: dict[tuple[str, tuple[Reader, ...]], Sequence[Sequence[Row]]] = {}
        at, what = ("tasks", name, spec.tasks[name].name), f"task `{name}`"
        self._guard = error_context(at, what, Asks(f"the rows of {what}", FEWER_ROWS))
        self._batch_guard = error_context(at, what)
        self._loss_guard = error_context(at, what, Asks(f"the loss of {what}"))
        self._metrics_guard = error_context(at, what, Asks(f"the metrics of {what}", FEWER_ROWS))

    def rows(self, split: str) -> int:
        """The number of rows of the task."""
        with self._guard:
            return super().rows(split)

    def labelled(self, split: str) -> int:
        """The number of rows that the metrics of the task count."""
        with self._guard:
            return super().labelled(split)

    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """Encode the rows with the task, unless they are encoded ahead."""
        if (ahead := self._ahead.pop((split, tuple(readers)), None)) is not None:
            return ahead
        with self._guard:
            return super().encode(split, readers)

    def encode_ahead(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """Encode rows that are read later, and keep them until then; packed, since that may take long."""
        key = (split, tuple(readers))
        if key not in self._ahead:
            self._ahead[key] = [packed(rows) for rows in self.encode(split, readers)]
        return self._ahead[key]

    def draw(self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool) -> Sequence[Row]:
        """Sample the random values of rows with the task."""
        with self._batch_guard:
            return super().draw(rows, generators, reader, taught=taught)

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Collate rows with the task."""
        with self._batch_guard:
            return super().collate(rows, reader)

    def pieces(self, rows: Sequence[Row], reader: Reader) -> Pieces | None:
        """The pieces of the task's rows."""
        with self._guard:
            return super().pieces(rows, reader)

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The hard losses of the task."""
        with self._loss_guard:
            return super().hard_loss(features, batch)

    def hard_view(self, features: Features, batch: Batch) -> View | None:
        """What the hard loss of the task compares across rows."""
        with self._loss_guard:
            return super().hard_view(features, batch)

    def hard_loss_across(self, view: View) -> Mapping[str, Mean]:
        """The hard losses of the task across rows."""
        with self._loss_guard:
            return super().hard_loss_across(view)

    def units(self, batch: Batch, masks: Mapping[str, Tensor]) -> Mapping[Unit, float]:
        """The units that the task counts."""
        with self._batch_guard:
            return super().units(batch, masks)

    def column(self, split: str, name: str) -> Sequence[Any] | None:
        """The column of the task's rows."""
        with self._guard:
            return super().column(split, name)

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The texts of the task's rows."""
        with self._guard:
            return super().texts(split)

    def compared(self, split: str) -> Sequence[tuple[str, ...]]:
        """What of the task's rows should not stand in `train`."""
        with self._guard:
            return super().compared(split)

    def uncut(self, split: str, rows: Sequence[int], reader: Reader) -> Sequence[int] | None:
        """The lengths of rows without the task's limit."""
        with self._guard:
            return super().uncut(split, rows, reader)

    def evaluator(self, split: str) -> Evaluator:
        """The evaluator of the task, guarded as well."""
        with self._metrics_guard:
            return _GuardedEvaluator(super().evaluator(split), self._metrics_guard)

    def answers(self, split: str) -> RowAnswers | None:
        """How the task writes the outputs of a model."""
        with self._guard:
            return super().answers(split)

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone | None:
        """How an exported model of the task is used."""
        with self._guard:
            return super().standalone(reader, module)

    def beside_teacher(self, split: str) -> Evaluator | None:
        """The evaluator beside a teacher, guarded as well."""
        with self._metrics_guard:
            found = super().beside_teacher(split)
            return None if found is None else _GuardedEvaluator(found, self._metrics_guard)


class _GuardedEvaluator(Evaluator):
    def __init__(self, evaluator: Evaluator, guard: AbstractContextManager[None]) -> None:
        self._evaluator, self._guard = evaluator, guard
        self.reads, self.optional, self.of_form = evaluator.reads, evaluator.optional, evaluator.of_form
        self.primary, self.others = evaluator.primary, evaluator.others
        self.gives_loss = evaluator.gives_loss
        self.agrees_on, self.agrees_by_token = evaluator.agrees_on, evaluator.agrees_by_token

    def add(self, features: Features, batch: Batch) -> State:
        with self._guard:
            return self._evaluator.add(features, batch)

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        with self._guard:
            return self._evaluator.merge(states)

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        with self._guard:
            return self._evaluator.agreement(states, reference)

    def beside(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, float]:
        with self._guard:
            return self._evaluator.beside(states, reference)

    def joined(self, teachers: Sequence[Sequence[State]], mixture: Mixture) -> Sequence[State]:
        with self._guard:
            return self._evaluator.joined(teachers, mixture)

    def reliability(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, Any]:
        with self._guard:
            return self._evaluator.reliability(states, reference)

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        with self._guard:
            return self._evaluator.error_analysis(states, reference, names)

    def metric(self, name: str) -> Metric:
        with self._guard:
            return self._evaluator.metric(name)
