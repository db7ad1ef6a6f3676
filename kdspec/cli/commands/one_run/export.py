"""`kdspec export`: a model of a finished run as an ONNX file that needs neither kdspec nor torch."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_run
from kdspec.diagnostics.finding import Finding, FindingError

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.cli.commands.one_run.finished_run import FinishedRun
    from kdspec.engine.export.onnx.result import Exported

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_PLACE = "onnx"
"""The folder in a run's."""
_EXAMPLES = """\b
Examples:
  kdspec export runs/my-run --onnx
  kdspec export runs/my-run --onnx --int8
  kdspec export runs/my-run --onnx --model teacher -o teacher-onnx
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `export`."""
    commands.command("export", epilog=_EXAMPLES)(export)


def export(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="The folder of a run, such as runs/my-run.", autocompletion=complete_run
        ),
    ],
    *,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file, for onnxruntime.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write a second one with weights of eight bits: smaller, mostly faster.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the run's models; by default its final student.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Of a model of several tasks: one of these.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="The new folder; by default RUN_DIR/onnx/MODEL."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Export a model of a finished run to ONNX, with its tokenizer and a script that needs no kdspec, and compare both.

    The files are compared with the model on test rows of the run, or else on validation rows: the largest difference of the
    outputs, the metrics, size and latency. A file that computes something else is not written.
    """
    invocation: Invocation = context.obj
    if not onnx:
        wanted = "`--int8` is a second ONNX file: add `--onnx`" if int8 else "to which format? Add `--onnx`"
        raise typer.BadParameter(wanted, param_hint="--int8" if int8 else "--onnx")
    _check_packages()
    from kdspec.cli.commands.one_run.finished_run import check_model, finished_run, task_of

    run = finished_run(invocation, folder)
    name = model or run.plan.final_stage.student
    check_model(run.plan, name)
    tasks = run.plan.tasks_of.get(name) or tuple(run.plan.spec.tasks)
    chosen = task_of(tasks, task, name)
    plan = run.plan
    if name not in plan.tasks_of:
        plan = replace(plan, tasks_of={**plan.tasks_of, name: (chosen,)})
    place = output or folder / _PLACE / (name if len(tasks) == 1 else f"{name}-{chosen}")
    _check_place(place)
    exported = _write(invocation, run, plan, (name, chosen), place, int8=int8)
    if json:
        from kdspec.engine.export.onnx.result import figures

        invocation.out.data({"folder": str(place), **figures(exported)})
        return
    _print(invocation, exported)


def _check_packages() -> None:
    """Raise KD530 for a package that is missing, before anything is loaded."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(f"`{name}`" for name in missing)
        message = f"ONNX needs {names}, which {'is' if len(missing) == 1 else 'are'} not installed"
        raise FindingError(Finding("KD530", message, help="`pip install 'kdspec[onnx]'` installs what is missing"))


def _check_place(place: Path) -> None:
    """Raise KD508 for a folder that exists already."""
    if place.exists() or place.is_symlink():
        message = f"`{place}` exists already, and an export replaces nothing"
        raise FindingError(Finding("KD508", message, help="remove it, or name another folder with `--output`"))


def _write(
    invocation: Invocation, run: FinishedRun, plan: Plan, chosen: tuple[str, str], place: Path, *, int8: bool
) -> Exported:
    from kdspec.cli.print_diagnostics import show
    from kdspec.engine.export.onnx.export import Exporter, thread_counts

    name, task = chosen
    with invocation.err.status("loading model and data") as status:
        exporter = Exporter(
            plan=plan, run=run.folder, model=name, task=task, int8=int8, threads=thread_counts(), tell=status.update
        )
        try:
            return exporter.write(place)
        except FindingError as error:
            invocation.trace(error)
            reading = run.reading
            show(reading.place(error.findings), reading.sources, reading.name, invocation.err, "full")
            raise typer.Exit(ExitCode.FAILED) from None


def _print(invocation: Invocation, exported: Exported) -> None:
    from kdspec.render.export import caption, latency, quality

    out = invocation.out
    out.print(quality(exported.forms), soft_wrap=False)
    out.print(latency(exported.forms), soft_wrap=False)
    out.say(caption(exported))
    out.say("")
    out.show(exported.script)
    out.say(f"{exported.folder} has the files; the lines above are its use.py")
