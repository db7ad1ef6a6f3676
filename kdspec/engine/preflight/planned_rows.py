"""Looks at the rows of a plan: data and tokenizers are read, no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import BuiltTask, Head, Reader
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.forward.guarded_task import GuardedTask, built
from kdspec.engine.forward.models import Models
from kdspec.engine.preflight.facts import TaskFacts
from kdspec.engine.preflight.findings import of_rows
from kdspec.engine.preflight.row_check import check_rows
from kdspec.engine.preflight.rows import splits_of, task_facts


@dataclass(frozen=True)
class PlannedRows:
    """What is known of the rows of a plan's tasks; a task with an error is left out."""

    tasks: tuple[TaskFacts, ...]
    findings: tuple[Finding, ...]


def look_at_rows(plan: Plan) -> PlannedRows:
    """The rows of each task, encoded for the models of its stages; errors are among the findings."""
    found: list[TaskFacts] = []
    findings: list[Finding] = []
    heads: dict[str, Head] = {}
    tasks: dict[str, GuardedTask] = {}
    names = dict.fromkeys(task for stage in plan.stages for task in stage.tasks)
    for name in names:
        try:
            tasks[name] = task = built(plan, name, findings.append)
            heads[name] = task.head
            facts = _facts(plan, name, task, Models(plan, heads, {}, weights=False))
        except FindingError as error:
            findings += error.findings
        else:
            found.append(facts)
            findings += of_rows(plan, facts)
    if tasks.keys() == names.keys():
        try:
            check_rows(plan, Models(plan, heads, {}, weights=False), tasks, [stage.name for stage in plan.stages])
        except FindingError as error:
            findings += error.findings
    return PlannedRows(tuple(found), tuple(dict.fromkeys(findings)))


def _facts(plan: Plan, name: str, task: BuiltTask, models: Models) -> TaskFacts:
    """The facts for the models of the first stage, with those of further readers in other stages."""
    merged: TaskFacts | None = None
    known: set[Reader] = set()
    for stage in plan.stages:
        if name not in stage.tasks:
            continue
        readers = models.readers(stage.tasks[name].models, stage.tasks[name].teachers, task)
        if set(readers.values()) <= known:
            continue
        known |= set(readers.values())
        loaders = {split: Loader(task, split, readers) for split in splits_of(task)}
        facts = task_facts(name, task, loaders)
        merged = facts if merged is None else _merged(merged, facts)
    assert merged is not None, "the task is that of a stage"
    return merged


def _merged(first: TaskFacts, second: TaskFacts) -> TaskFacts:
    shown = {each.models: each for each in (*first.shown, *second.shown)}
    splits = {
        split: replace(
            facts, reads=tuple({each.models: each for each in (*facts.reads, *second.splits[split].reads)}.values())
        )
        for split, facts in first.splits.items()
    }
    return replace(first, shown=tuple(shown.values()), splits=splits)
