"""The rehearsal at the start of `plan` and `run`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from kdspec.cli.invocation import Invocation
from kdspec.cli.print_diagnostics import show_reading
from kdspec.cli.read_spec import Reading
from kdspec.render.formats import Format

if TYPE_CHECKING:
    from kdspec.rehearsal.result import Rehearsal


def rehearsed(invocation: Invocation, reading: Reading, format_: Format = "full") -> Rehearsal:
    """Rehearse a spec and print all its diagnostics; errors end the command."""
    if reading.plan is None:
        show_reading(reading, invocation.err, format_)
        raise typer.Exit(reading.exit_code)
    with invocation.err.status("rehearsing"), _no_garbage():
        from kdspec.rehearsal.rehearse import rehearse

        rehearsal = rehearse(reading.plan, invocation.registry)
    found = replace(reading, diagnostics=(*reading.diagnostics, *reading.place(rehearsal.findings)))
    show_reading(found, invocation.err, format_)
    if found.failed:
        raise typer.Exit(found.exit_code)
    return rehearsal


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
