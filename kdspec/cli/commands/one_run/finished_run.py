"""The folder of a finished run, for the commands that use its models: its plan, and one of its models by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdspec.api.plan.plan import Plan
from kdspec.cli.exits import exit_code
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, FindingError

if TYPE_CHECKING:
    from kdspec.cli.invocation import Invocation
    from kdspec.engine.run.run_folder import RunFolder
    from kdspec.launch.spec_reading import Reading


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended."""

    folder: RunFolder
    reading: Reading
    """Of its spec."""
    plan: Plan


def finished_run(invocation: Invocation, folder: Path) -> FinishedRun:
    """The run in a folder, with its spec read again.

    Raises:
        FindingError: KD003 if it is not the folder of a run, or the run has not finished.
        typer.Exit: the spec has errors, which are shown.
    """
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.engine.run.run_folder import RunFolder
    from kdspec.launch.spec_reading import read_run
    from kdspec.report import report

    run = RunFolder(folder)
    report.check(folder)
    if run.table() is None or run.origin is None:
        message = f"the run in `{folder}` has not finished"
        raise FindingError(
            Finding("KD003", message, help="finish it with `kdspec run`, with the command that began it")
        )
    reading = invocation.printing(read_run(folder, invocation.registry, trusts_code=invocation.trusts_code))
    if reading.plan is None or reading.failed:
        show_reading(reading, invocation.err, "full")
        raise typer.Exit(exit_code(reading))
    return FinishedRun(run, reading, reading.plan)


def check_model(plan: Plan, name: str) -> None:
    """Raise `typer.BadParameter` for a model that the run does not have, or that has no weights."""
    names = list(plan.spec.models)
    if name not in names:
        near = closest(name, names)
        hint = f"did you mean `{near}`?" if near else f"its models are {', '.join(f'`{each}`' for each in names)}"
        raise typer.BadParameter(f"the run has no model `{name}`; {hint}", param_hint="--model")
    if not plan.spec.models[name].has_weights:
        message = f"`{name}` has no weights: its answers are columns of the rows already"
        raise typer.BadParameter(message, param_hint="--model")


def task_of(tasks: Sequence[str], task: str | None, model: str) -> str:
    """The task that is asked for, or the only one. Raises `typer.BadParameter` if it is neither."""
    if task is None and len(tasks) == 1:
        return tasks[0]
    shown = ", ".join(f"`{each}`" for each in tasks)
    if task is None:
        raise typer.BadParameter(f"which task of `{model}`? One of {shown}", param_hint="--task")
    if task not in tasks:
        near = closest(task, tasks)
        hint = f"did you mean `{near}`?" if near else f"it has {shown}"
        raise typer.BadParameter(f"`{model}` has no task `{task}`; {hint}", param_hint="--task")
    return task
