"""Reads the recorded answers of teachers without weights to the rows of a task, and gives them to the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kdspec.api.kinds.model import Model
from kdspec.api.kinds.recorded import Answer, RecordedRows
from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import ANSWERS, BuiltTask
from kdspec.data.answers.recorded.answered_task import AnsweredTask
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, of_fault
from kdspec.engine.forward.error_context import FEWER_ROWS, Asks, error_context

_SPLITS = ("train", "validation", "test", "unlabelled")
_NEEDED = ("train", "unlabelled")
"""The splits that are trained on: rows of others without answers are not evaluated for the teacher."""


def recorded_teachers(plan: Plan, task: str) -> dict[str, Model]:
    """The teachers of a task whose answers are in its rows, by name."""
    stages = [stage for stage in plan.stages if task in stage.tasks]
    names = dict.fromkeys(name for stage in stages for name in stage.tasks[task].teachers)
    if plan.spec.tasks[task].answered is None:
        return {}
    models = {name: plan.spec.models[name] for name in names}
    return {name: model for name, model in models.items() if model.form(plan.context(name)).startswith(ANSWERS)}


def recorded_columns(teachers: Mapping[str, Model]) -> tuple[str, ...]:
    """The columns with the answers of these teachers."""
    return tuple(dict.fromkeys(name for model in teachers.values() for name in model.records().values()))


def with_answers(
    plan: Plan, name: str, task: BuiltTask, teachers: Mapping[str, Model], tell: Callable[[Finding], None]
) -> BuiltTask:
    """The task with the answers of its recorded teachers; the same task without any.

    Args:
        plan: the plan.
        name: the name of the task.
        task: the task.
        teachers: of `recorded_teachers`.
        tell: gets warnings and notes about rows.

    Raises:
        FindingError: KD502 for a row with an answer that cannot be read, and for a teacher without answers; KD403 for
            classes that are not those of the task.
    """
    if not teachers:
        return task
    reading = _Reading(plan, name, task, tell)
    answers = {model: reading.of(model, component) for model, component in teachers.items()}
    return AnsweredTask(task, answers, by_word=plan.spec.tasks[name].answered == "word")


class _Reading:
    def __init__(self, plan: Plan, name: str, task: BuiltTask, tell: Callable[[Finding], None]) -> None:
        self._plan, self._name, self._task, self._tell = plan, name, task, tell

    def of(self, model: str, component: Model) -> dict[str, Sequence[Answer | None]]:
        """The answers of a teacher by split."""
        at = ("models", model, component.name)

        def tell(fault: Fault) -> None:
            self._tell(replace(of_fault(fault, at), severity="note" if fault.severity == "note" else "warning"))

        found: dict[str, Sequence[Answer | None]] = {}
        with error_context(at, f"model `{model}`", Asks(f"the answers of `{model}`", FEWER_ROWS)):
            for split in _SPLITS:
                if not self._task.rows(split):
                    continue
                columns = {column: self._task.column(split, column) for column in component.records().values()}
                there = {column: values for column, values in columns.items() if values is not None}
                if len(there) == len(columns):
                    found[split] = component.answers(self._rows(split, there, tell))
                self._count(model, component, split, found.get(split), tell)
        return found

    def _rows(self, split: str, columns: Mapping[str, Sequence[object]], tell: Callable[[Fault], None]) -> RecordedRows:
        task = self._plan.spec.tasks[self._name]
        by_word = task.answered == "word"
        assert task.logits is not None, "a task with answers has declared its logits"
        return RecordedRows(
            split=split, columns=columns, logits=task.logits, task=self._name, classes=self._task.head.labels,
            named=self._is_named(),
            words=[len(words) for words in self._task.texts(split)] if by_word else None,
            tell=tell,
        )  # fmt: skip

    def _is_named(self) -> bool:
        """Whether the spec itself orders the classes."""
        built = self._plan.spec.tasks[self._name].without_rows()
        return built is not None and bool(built.head.labels)

    def _count(
        self,
        model: str,
        component: Model,
        split: str,
        answers: Sequence[Answer | None] | None,
        tell: Callable[[Fault], None],
    ) -> None:
        """Report the rows without an answer."""
        at = next(iter(component.records()))[:1]
        rows = self._task.rows(split)
        without = rows if answers is None else sum(each is None for each in answers)
        if split == "train" and without == rows:
            message = f"no row of `train` has an answer of `{model}`"
            names = ", ".join(f"`{name}`" for name in component.records().values())
            raise Fault("KD502", message, at, help=f"the column {names} is empty in all rows")
        if without and (answers is not None or split in _NEEDED):
            message = f"{without:,} of {rows:,} rows of `{split}` have no answer of `{model}`"
            help_ = "they are left out of its soft labels" if split in _NEEDED else "it is not evaluated on them"
            tell(Fault("KD316", message, at, help=help_, severity="note"))
