"""The rehearsal at the start of `plan` and `run`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdspec.cli.invocation import Invocation
from kdspec.cli.print_diagnostics import show_reading
from kdspec.cli.read_spec import Reading
from kdspec.render.formats import Format

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.rehearsal.result import Rehearsal


def planned(invocation: Invocation, reading: Reading, format_: Format = "full") -> Plan:
    """The plan of a spec; without one, its diagnostics are printed and the command ends."""
    if reading.plan is None:
        show_reading(reading, invocation.err, format_)
        raise typer.Exit(reading.exit_code)
    return reading.plan


def rehearsed(invocation: Invocation, reading: Reading, format_: Format = "full") -> Rehearsal:
    """Rehearse a spec and print all its diagnostics; errors end the command."""
    plan = planned(invocation, reading, format_)
    with invocation.err.status("rehearsing"), _no_garbage():
        from kdspec.rehearsal.rehearse import rehearse

        rehearsal = rehearse(plan, invocation.registry)
    found = replace(reading, diagnostics=(*reading.diagnostics, *reading.place(rehearsal.findings)))
    show_reading(found, invocation.err, format_)
    if found.failed:
        raise typer.Exit(found.exit_code)
    return rehearsal


def rehearsed_once(invocation: Invocation, reading: Reading, output: Path | None, format_: Format = "full") -> Plan:
    """Rehearse a spec, unless its steps have been done in the run folder in `output`; its diagnostics are printed."""
    from kdspec.engine.run.resume_check import has_trained
    from kdspec.engine.run.run_folder import RunFolder

    plan, err = planned(invocation, reading, format_), invocation.err
    if output is not None and has_trained(plan, RunFolder(output / plan.spec.name)):
        show_reading(reading, err, format_)
        return plan
    if not err.is_terminal and format_ == "full":
        err.say("rehearsing the first step of each stage")  # it takes seconds, and a log shows no spinner
    rehearsed(invocation, reading, format_)
    return plan


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Disable the cyclic garbage collector: torch and transformers create many long-lived objects, and searching them
    takes a tenth of the time.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()
