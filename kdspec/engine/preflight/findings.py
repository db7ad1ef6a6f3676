"""Tells what is wrong with the rows of a task, from the facts about them."""

from __future__ import annotations

from collections.abc import Iterator

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.diagnostic import Severity, excerpt
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.engine.preflight.facts import TaskFacts

_MANY_CUT = 0.25
_MANY_REPEATED = 0.05
"""Shares of the rows from which a note becomes a warning."""
_FEW_ROWS = 10
_SHOWN = 8


def of_rows(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    """KD519 for what looks wrong in the rows of a task: warnings, and notes."""
    for check in (_too_many_classes, _without_rows, _without_tokens, _cut, _repeated):
        yield from check(plan, facts)


def _too_many_classes(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    """A label column with about as many values as rows is seldom one of classes."""
    train = facts.splits["train"]
    used, rows = sum(map(bool, train.labels.values())), train.labelled or 0
    each_token = sum(train.labels.values()) > rows
    if each_token or rows < _FEW_ROWS or used <= rows / 2:
        return
    message = f"the {rows:,} labelled rows of `train` have {used:,} different labels"
    help_ = "name the column of the classes in `label`, if this is another one"
    yield _finding(plan, facts.task, "warning", message, "label", help_)


def _without_rows(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    train = facts.splits["train"]
    if not train.labelled:
        return
    missing = [name for name, count in train.labels.items() if not count]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        listed = ", ".join(f"`{excerpt(name)}`" for name in missing[:_SHOWN]) + more
        what = "class" if len(missing) == 1 else "classes"
        yield _finding(plan, facts.task, "warning", f"no row of `train` has the {what} {listed}", "labels")


def _without_tokens(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    for split, found in facts.splits.items():
        for read in found.reads:
            if read.without_tokens:
                of = f"{read.without_tokens:,} of {found.encoded:,} rows of `{split}`"
                message = f"{of} have no token of their text for {_models(read.models)}"
                yield _finding(plan, facts.task, "warning", message, "text")


def _cut(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    found = facts.splits["train"]
    for read in found.reads:
        if read.cut and read.cut > _MANY_CUT * found.encoded:
            share = f"{read.cut / found.encoded:.0%} of the rows of `train`"
            message = f"{share} are cut at {read.longest} tokens for {_models(read.models)}"
            yield _finding(plan, facts.task, "warning", message, plan.spec.tasks[facts.task].length_limit)


def _repeated(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    for split, found in facts.splits.items():
        if found.in_train:
            severity: Severity = "warning" if found.in_train > _MANY_REPEATED * found.rows else "note"
            message = f"{found.in_train:,} of {found.rows:,} {split} texts stand in `train` as they are"
            yield _finding(plan, facts.task, severity, message, "data")


def _models(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _finding(
    plan: Plan, task: str, severity: Severity, message: str, key: str | None, help_: str | None = None
) -> Finding:
    """A finding about a parameter of a task, or about the task if that is not written."""
    at = ("tasks", task, plan.spec.tasks[task].name, *((key,) if key else ()))
    label = Mark(at) if key and plan.source.has(at) else Mark(("tasks", task), key=True)
    return Finding("KD519", message, *label, help=help_, severity=severity)
