"""The rehearsal that `plan` and `run` begin with."""

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
    """Rehearse a spec that has been read, and show all that was found in it; where there are errors, that is all."""
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
    """Without the search for unused cycles: a tenth of the time, as torch and transformers make many objects to stay."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()
