"""The rehearsal before a plan is shown or run."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.launch.spec_reading import Reading
from kdspec.registry.registry import Registry

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.rehearsal.result import Rehearsal


def rehearsed(reading: Reading, plan: Plan, registry: Registry) -> tuple[Reading, Rehearsal]:
    """Rehearse the plan of a reading. The new reading has the diagnostics of both."""
    with _no_garbage():
        from kdspec.rehearsal.rehearse import rehearse

        rehearsal = rehearse(plan, registry)
    found = replace(reading, diagnostics=(*reading.diagnostics, *reading.place(rehearsal.findings)))
    return found, rehearsal


def has_trained(plan: Plan, output: Path) -> bool:
    """Whether the run folder in `output` has steps of this plan, which need not be rehearsed again."""
    from kdspec.engine.run import resume_check
    from kdspec.engine.run.run_folder import RunFolder

    return resume_check.has_trained(plan, RunFolder(output / plan.spec.name))


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
