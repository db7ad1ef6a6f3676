"""The identity of a run: for each stage a fingerprint of its settings, and what it reads by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import BuiltTask
from kdspec.engine.identity.file_digests import FileDigests, Stamp
from kdspec.engine.identity.read_content import belongs, commits, read_content
from kdspec.engine.identity.reading import ReadContent
from kdspec.engine.identity.record import StageIdentity
from kdspec.engine.identity.spec_digest import spec_digests
from kdspec.registry.registry import Registry


@dataclass(frozen=True)
class Identity:
    """What the stages of a plan are made from now."""

    stages: Mapping[str, StageIdentity]
    stamps: Mapping[str, tuple[Stamp, str]]
    """Checksums of large files that the next start may use."""


def identity(plan: Plan, registry: Registry, known: Mapping[str, tuple[Stamp, str]], salt: str = "") -> Identity:
    """Read what the plan reads.

    Args:
        plan: the plan.
        registry: its components.
        known: checksums of large files of an earlier start.
        salt: of the run folder, for the fingerprints of variables.
    """
    digests = FileDigests(known)
    found = list(read_content(plan, registry, digests))
    stages = {}
    for name, spec in spec_digests(plan, salt).items():
        mine = {reading.key: reading for at, reading in found if belongs(plan, name, at)}
        stages[name] = StageIdentity(spec=spec, reads=tuple(mine.values()))
    return Identity(stages, digests.known)


def completed(before: Identity, plan: Plan, tasks: Mapping[str, BuiltTask]) -> Identity:
    """The identity with the numbers of rows, and the commits of what had not been downloaded, once the rows have been read."""
    found, stages = list(commits(plan)), {}
    for name, stage in before.stages.items():
        known = {reading.key for reading in stage.reads}
        new = (reading for at, reading in found if reading.key not in known and belongs(plan, name, at))
        reads = (*(_counted(reading, tasks) for reading in stage.reads), *new)
        stages[name] = stage.model_copy(update={"reads": reads})
    return replace(before, stages=stages)


def _counted(reading: ReadContent, tasks: Mapping[str, BuiltTask]) -> ReadContent:
    task = tasks.get(str(reading.at[1])) if reading.kind == "rows" and reading.at[0] == "tasks" else None
    return reading if task is None else reading.model_copy(update={"rows": task.rows(reading.name)})
