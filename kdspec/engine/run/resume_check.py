"""Checks that a run is resumed with the spec that its stages began with, and with what they read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import BuiltTask
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.forward.guarded_task import built
from kdspec.engine.identity.identity import Identity, completed, identity
from kdspec.engine.identity.reading import Pair, ReadContent, difference, differing, merged, other
from kdspec.engine.identity.record import FILE, IdentityRecord, NotRecorded, StageIdentity
from kdspec.engine.identity.spec_digest import spec_digest, spec_digests
from kdspec.engine.run.run_folder import RunFolder
from kdspec.planning.resolved import resolved
from kdspec.registry.registry import Registry
from kdspec.source.document import parse

_LISTED = 8
_HELP = (
    "give the spec another `name`, start again with `--restart` (the old run is moved aside), "
    "or resume with {what} with `--resume`"
)


@dataclass(frozen=True)
class SpecChange:
    """Stages that resume with another spec than they began with, or read something else."""

    stages: tuple[str, ...]
    differences: tuple[str, ...]
    """The differences, one line each."""


class ResumeCheck:
    """What the stages of a run began with, and what they are made from now.

    Args:
        plan: the plan.
        folder: the run folder, locked.
        registry: the components of the plan.
    """

    def __init__(self, plan: Plan, folder: RunFolder, registry: Registry) -> None:
        self.plan, self.folder = plan, folder
        self._unknown = ""
        try:
            self.former = IdentityRecord.loads(folder.text(FILE))
        except NotRecorded as reason:
            self.former, self._unknown = IdentityRecord(), f"{reason}"
        self.now: Identity = identity(plan, registry, self.former.stamps, folder.salt)

    def hold(self, *, resume: bool = False) -> SpecChange:
        """Compare the stages that have begun with the plan and what it reads, then record both for the others.

        With `resume` changed stages resume, finished ones from their last checkpoint; `accept` then records what they are
        made from now.

        Raises:
            FindingError: KD509, with the differences.
        """
        begun = _begun(self.folder, self.now.stages)
        changed = tuple(name for name in self.now.stages if name in begun and self._differs(name))
        found = self._change(changed) if changed else SpecChange((), ())
        if changed and not resume:
            raise FindingError(self._finding(changed[0], found.differences))
        for name in changed:
            self.folder.reopen(name)
        # Changed stages keep their old record until they have a new checkpoint: it describes the checkpoints on disk.
        former = {name: stage for name, stage in self.former.stages.items() if name in changed}
        others = {name: self._merged(name) for name in self.now.stages if name not in changed}
        self._remember({**others, **former})
        return found

    def complete(self, tasks: Mapping[str, BuiltTask]) -> None:
        """Record what is known now that rows have been read and models downloaded: numbers of rows, and commits."""
        self.now = completed(self.now, self.plan, tasks)
        same = {
            name for name, stage in self.former.stages.items() if name in self.now.stages and not self._differs(name)
        }
        self._remember({**self.former.stages, **{name: self._merged(name) for name in same}})

    def accept(self, stage: str) -> None:
        """Record what a stage that has resumed with a change is made from, when its first checkpoint is on disk."""
        self._remember({**self.former.stages, stage: self.now.stages[stage]})

    def _differs(self, stage: str) -> bool:
        former = self.former.stages.get(stage)
        return former is None or former.spec != self.now.stages[stage].spec or bool(self._pairs(stage))

    def _pairs(self, stage: str) -> list[Pair]:
        former = self.former.stages.get(stage)
        return [] if former is None else list(differing(former.reads, self.now.stages[stage].reads))

    def _merged(self, stage: str) -> StageIdentity:
        """What a stage that is unchanged is made from: the same as before, as far as it is known now."""
        former, now = self.former.stages.get(stage), self.now.stages[stage]
        if former is None or self._differs(stage):
            return now
        return now.model_copy(update={"reads": merged(former.reads, now.reads)})

    def _remember(self, stages: Mapping[str, StageIdentity]) -> None:
        record = IdentityRecord(stages=dict(stages), stamps=dict(self.now.stamps))
        if record != self.former:
            self.folder.write(FILE, record.dumps())
            self.former = record

    def _change(self, changed: tuple[str, ...]) -> SpecChange:
        """The changed stages, with what differs in the spec and in what they read."""
        if self._unknown:
            return SpecChange(changed, (self._unknown,))
        specs = [name for name in changed if self._has_other_spec(name)]
        lines = [*self._other_trust(specs), *(_differences(self.plan, self.folder) if specs else ())]
        pairs = dict.fromkeys(pair for name in changed for pair in self._pairs(name))
        return SpecChange(changed, tuple(_listed([*lines, *(self._line(*pair) for pair in pairs)])))

    def _line(self, former: ReadContent | None, now: ReadContent | None) -> str:
        """The line on a pair, with the number of rows of now, which are read for it."""
        if now is not None and now.kind == "rows" and now.rows is None and now.at[0] == "tasks":
            with suppress(FindingError):  # rows that cannot be read have no number
                now = now.model_copy(update={"rows": built(self.plan, str(now.at[1])).rows(now.name)})
        return difference(former, now)

    def _has_other_spec(self, stage: str) -> bool:
        former = self.former.stages.get(stage)
        return former is None or former.spec != self.now.stages[stage].spec

    def _other_trust(self, stages: Iterable[str]) -> Iterator[str]:
        """The difference in `--trust-remote-code` between the beginning of the run and now."""
        before = not self.plan.source.trusts_code
        former = {name: stage.spec for name, stage in self.former.stages.items()}
        if any(
            former.get(name) == spec_digest(self.plan, name, self.folder.salt, trusts_code=before) for name in stages
        ):
            yield "`--trust-remote-code` " + ("was given and is not" if before else "was not given and is")

    def _finding(self, stage: str, differences: tuple[str, ...]) -> Finding:
        run = f"stage `{stage}` of run `{self.plan.spec.name}`"
        pairs = self._pairs(stage)
        changed = dict.fromkeys(one.at for pair in pairs for one in pair[::-1] if one is not None)
        places = [Mark(each, "changed since it began") for each in changed]
        if self._unknown:
            message, what = f"it is not recorded what {run} began with", "what is there now"
        elif self._has_other_spec(stage):
            message, what = f"{run} began with {' and '.join(['another spec', *other(pairs)])}", "the changed spec"
        else:
            message, what = f"{run} began with {' and '.join(other(pairs))}", "what is there now"
        if not places or self._has_other_spec(stage):
            places.insert(0, Mark(("stages", stage), "changed since it began", key=True))
        return Finding(
            "KD509", message, *places[0], also=tuple(places[1:]), notes=differences, help=_HELP.format(what=what)
        )


def has_trained(plan: Plan, folder: RunFolder) -> bool:
    """Whether a stage of exactly this spec has done steps in this folder, so that its step need not be rehearsed again."""
    try:
        former = IdentityRecord.loads(folder.text(FILE))
    except NotRecorded:
        return False
    begun = any(folder.has_ended(stage.name) or folder.checkpoints(stage.name).steps() for stage in plan.stages)
    same = {name: stage.spec for name, stage in former.stages.items()} == spec_digests(plan, folder.salt)
    return begun and same and folder.text("spec.yaml") == resolved(plan)


def other_versions(former: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """A sentence on libraries with other versions than when the run began; None if all are the same."""
    changed = [f"{name} {former[name]} → {now[name]}" for name in now if former.get(name, now[name]) != now[name]]
    if not changed:
        return None
    return f"this run resumes with other versions than before ({', '.join(changed)}): results may differ slightly"


def _begun(folder: RunFolder, stages: Iterable[str]) -> set[str]:
    names = list(stages)
    return {name for name in names if folder.checkpoints(name).steps()} | folder.finished(names).keys()


def _listed(lines: list[str]) -> list[str]:
    return [*lines[:_LISTED], f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else lines


def _differences(plan: Plan, folder: RunFolder) -> list[str]:
    """The differences between the spec that the run began with and this one, one line each."""
    try:
        former = parse(folder.text("spec.yaml") or "{}", "spec.yaml").data
    except DiagnosticError:
        return []
    now = resolved(plan)
    values = plan.source.variables.fingerprints(now, folder.salt)
    return [*_other_values(values, folder.variables), *_between(former, parse(now, "spec.yaml").data, "")]


def _other_values(now: Mapping[str, str], former: Mapping[str, str]) -> Iterator[str]:
    """The variables with another value than before; neither value is known or shown."""
    for name, known in now.items():
        if former.get(name, known) != known:
            yield f"the environment variable `${{{name}}}` has another value than before"


def _between(former: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(former, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*former, *now)):
            at = f"{path}.{key}" if path else str(key)
            if key not in former:
                yield f"`{at}` is new"
            elif key not in now:
                yield f"`{at}` is gone"
            else:
                yield from _between(former[key], now[key], at)
    elif former != now:
        yield f"`{path}` was `{json.dumps(former)}` and is `{json.dumps(now)}`"
