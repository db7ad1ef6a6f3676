"""`kdspec.run`, `kdspec.plan` and `kdspec.check`: the commands of these names for programs and notebooks."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from kdspec.diagnostics.finding import FindingError
from kdspec.diagnostics.place import place
from kdspec.engine.processes import torchrun
from kdspec.engine.run.signals import StopSignal
from kdspec.launch.check_result import CheckResult
from kdspec.launch.errors import RunError, SpecError, printed
from kdspec.launch.named_device import refused_device
from kdspec.launch.planned_run import PlannedRun
from kdspec.launch.rehearsed import has_trained, rehearsed
from kdspec.launch.run import Run
from kdspec.launch.spec_argument import PluginLike, SpecArgument, SpecLike, Values, printed_findings, read_argument
from kdspec.launch.trackers import refused_trackers
from kdspec.render import diagnostics as render

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.engine.run.session import Result, Session


def check(
    spec: SpecLike,
    *,
    set: Values | None = None,  # noqa: A002 - the name of the option
    plugins: Sequence[PluginLike] = (),
    trust_remote_code: bool = False,
) -> CheckResult:
    """The diagnostics of a spec, as `kdspec validate` prints them. Nothing is run or loaded.

    Args:
        spec: a file, or a mapping with the keys of a spec; relative paths in a mapping start in the working folder.
        set: values to replace, by their paths: `{"stages.distil.training.epochs": 3}`; or texts as `--set` takes them.
        plugins: files, modules, or classes of components, besides the installed packages.
        trust_remote_code: whether models may run code from their files.

    Raises:
        SpecError: a plugin cannot be loaded. Errors of the spec are in the result.
    """
    asked = read_argument(spec, set, plugins, trusts_code=trust_remote_code)
    found = asked.reading.diagnostics
    summary = f"{render.summary(found, asked.reading.name)}\n"
    return CheckResult(found, f"{asked.printed(found)}\n{summary}" if found else summary)


def plan(
    spec: SpecLike,
    *,
    set: Values | None = None,  # noqa: A002 - the name of the option
    plugins: Sequence[PluginLike] = (),
    static: bool = False,
    trust_remote_code: bool = False,
) -> PlannedRun:
    """What would run, as `kdspec plan` shows it: models, layers, losses, shapes and cost. No weights are read.

    Args:
        spec: a file or a mapping, as for `check`.
        set: values to replace, as for `check`.
        plugins: as for `check`.
        static: without the rehearsal on meta tensors: no shapes, sizes, cost or memory.
        trust_remote_code: whether models may run code from their files.

    Raises:
        SpecError: the spec has errors; its text shows each of them at its line.
    """
    from kdspec.planning.outline import outline

    asked = read_argument(spec, set, plugins, trusts_code=trust_remote_code)
    planned = _planned(asked)
    if static:
        return PlannedRun(planned, outline(planned), asked.reading.diagnostics)
    from kdspec.rehearsal.result import as_data, settled

    found, rehearsal = rehearsed(asked.reading, planned, asked.registry)
    if found.failed:
        raise asked.error(SpecError, found.diagnostics)
    data = {**outline(settled(planned, rehearsal)), "rehearsal": as_data(rehearsal)}
    return PlannedRun(planned, data, found.diagnostics)


def run(
    spec: SpecLike,
    *,
    set: Values | None = None,  # noqa: A002 - the name of the option
    output: str | os.PathLike[str] = "runs",
    restart: bool = False,
    resume: bool = False,
    device: str | None = None,
    plugins: Sequence[PluginLike] = (),
    trust_remote_code: bool = False,
    track: str | Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Train the stages of a spec in order, then compare the models, as `kdspec run` does.

    The same call resumes a run that was stopped, by Ctrl-C or the stop button of a notebook too, and returns a finished
    one at once.

    Args:
        spec: a file or a mapping, as for `check`.
        set: values to replace, as for `check`.
        output: the folder that contains the run folder.
        restart: start from the beginning; the earlier run is moved aside.
        resume: resume although the spec, or what it reads, has changed since.
        device: for example `cpu` or `cuda:1`; the first GPU by default.
        plugins: as for `check`.
        trust_remote_code: whether models may run code from their files.
        track: the trackers that log the run, such as `wandb` of the package kdspec-wandb.
        progress: whether progress and warnings are printed, on standard error or in the notebook.

    Raises:
        SpecError: the spec has errors; its text shows each of them at its line.
        RunError: the run failed: KD5xx.
        KeyboardInterrupt: it was stopped; the text says what is saved.
        ValueError: arguments exclude each other, the device cannot be used, or there is no such tracker.
    """
    if restart and resume:
        raise ValueError("`restart` and `resume` exclude each other")
    asked = read_argument(spec, set, plugins, trusts_code=trust_remote_code)
    planned, trackers = _planned(asked), [track] if isinstance(track, str) else list(track)
    if (reason := refused_trackers(trackers, asked.registry.plugins)) is not None:
        raise ValueError(reason)
    if device is not None and (reason := refused_device(device)) is not None:
        raise ValueError(reason)
    try:
        quiet = not progress or torchrun.place(os.environ).rank > 0
        trained = not restart and has_trained(planned, Path(output))
    except FindingError as error:
        raise RunError(*printed_findings(error)) from None
    found = asked.reading if trained else rehearsed(asked.reading, planned, asked.registry)[0]
    if found.failed:
        raise asked.error(SpecError, found.diagnostics)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=quiet)
    if found.diagnostics:
        _print(console, asked.printed(found.diagnostics))

    from kdspec.engine.run.session import Session

    session = Session(
        planned, asked.registry, output=Path(output), restart=restart, resume=resume, device=device, track=trackers
    )
    result = _trained(session, console, asked, {each.line for each in found.diagnostics})
    return Run(result.folder, plugins=plugins, trust_remote_code=trust_remote_code)


def _planned(asked: SpecArgument) -> Plan:
    if asked.reading.plan is None:
        raise asked.error(SpecError, asked.reading.diagnostics)
    return asked.reading.plan


def _trained(session: Session, console: Console, asked: SpecArgument, told: Collection[str]) -> Result:
    """Run a session and write its report. Signals end the run, and not the process."""
    from kdspec.engine.run.stage_run import Interrupted
    from kdspec.launch.observed import observed

    try:
        with StopSignal(ends_process=False) as stop:
            session.stop = stop
            result, unwritten = observed(session, console, told)
    except FindingError as error:
        diagnostics = asked.reading.place(error.findings)
        raise asked.error(RunError, diagnostics) from diagnostics[0].cause
    except Interrupted as stopped:
        text = f"stopped; {stop.saved}, in {session.folder}"
        if stopped.signal == signal.SIGTERM:
            _print(console, f"{text}\n")
            raise SystemExit(128 + stopped.signal) from None
        raise KeyboardInterrupt(text) from None
    if unwritten:
        _print(console, printed(place(unwritten, None)))
    return result


def _print(console: Console, text: str) -> None:
    console.print(text, end="", soft_wrap=True)
