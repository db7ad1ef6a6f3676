"""The rehearsal of `plan` and `run`: its diagnostics are printed, and errors end the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdspec.cli.exits import exit_code
from kdspec.cli.invocation import Invocation
from kdspec.cli.print_diagnostics import show_reading
from kdspec.launch import rehearsed as rehearsal_of
from kdspec.launch.spec_reading import Reading
from kdspec.render.formats import Format

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.rehearsal.result import Rehearsal


def planned(invocation: Invocation, reading: Reading, format_: Format = "full") -> Plan:
    """The plan of a spec; without one, its diagnostics are printed and the command ends."""
    if reading.plan is None:
        show_reading(reading, invocation.err, format_)
        raise typer.Exit(exit_code(reading))
    return reading.plan


def rehearsed(invocation: Invocation, reading: Reading, format_: Format = "full") -> Rehearsal:
    """Rehearse a spec and print all its diagnostics; errors end the command."""
    plan = planned(invocation, reading, format_)
    with invocation.err.status("rehearsing"):
        found, rehearsal = rehearsal_of.rehearsed(reading, plan, invocation.registry)
    show_reading(found, invocation.err, format_)
    if found.failed:
        raise typer.Exit(exit_code(found))
    return rehearsal


def rehearsed_once(invocation: Invocation, reading: Reading, output: Path | None, format_: Format = "full") -> Plan:
    """Rehearse a spec, unless its steps have been done in the run folder in `output`; its diagnostics are printed."""
    plan, err = planned(invocation, reading, format_), invocation.err
    if output is not None and rehearsal_of.has_trained(plan, output):
        show_reading(reading, err, format_)
        return plan
    if not err.is_terminal and err.shows_progress and format_ == "full":
        err.say("rehearsing the first step of each stage")  # it takes seconds, and a log shows no spinner
    rehearsed(invocation, reading, format_)
    return plan
