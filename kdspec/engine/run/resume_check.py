"""Checks that a run is resumed with the spec that its stages began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.run.run_folder import RunFolder
from kdspec.plan.resolved import resolved

_LISTED = 8


@dataclass(frozen=True)
class SpecChange:
    """Stages that resume with another spec than they began with."""

    stages: tuple[str, ...]
    differences: tuple[str, ...]
    """The differences, one line each."""


def hold(plan: Plan, folder: RunFolder, *, resume: bool = False) -> SpecChange:
    """Compare the stages that have begun with the plan, then record the plan for them.

    With `resume` stages with a changed spec resume, finished ones from their last checkpoint; `accept` then records the
    plan for them.

    Raises:
        FindingError: KD509, with the differences.
    """
    now, former = _digests(plan), _former(folder)
    begun = {name for name in now if folder.checkpoints(name).steps()} | folder.finished(now).keys()
    changed = tuple(name for name in now if name in begun and former.get(name) != now[name])
    differences = (*_other_trust(plan, changed, former), *_differences(plan, folder)) if changed else ()
    if changed and not resume:
        message = f"stage `{changed[0]}` of run `{plan.spec.name}` began with another spec"
        label = Mark(("stages", changed[0]), "changed since it began", key=True)
        help_ = (
            "give the spec another `name`, start again with `--restart` (the old run is moved aside), "
            "or resume with the changed spec with `--resume`"
        )
        raise FindingError(Finding("KD509", message, *label, notes=differences, help=help_))
    for name in changed:
        folder.reopen(name)
    # Changed stages keep their old digest until they have a new checkpoint: it describes the checkpoints on disk.
    _remember(folder, former, {**now, **{name: former.get(name) for name in changed}})
    return SpecChange(changed, differences)


def has_trained(plan: Plan, folder: RunFolder) -> bool:
    """Whether a stage of exactly this spec has done steps in this folder, so that its step need not be rehearsed again."""
    begun = any(folder.checkpoints(stage.name).steps() for stage in plan.stages)
    return begun and _former(folder) == _digests(plan) and folder.text("spec.yaml") == resolved(plan)


def accept(plan: Plan, folder: RunFolder, stage: str) -> None:
    """Record the plan for a stage that has resumed with a changed spec, when its first checkpoint is on disk."""
    former = _former(folder)
    _remember(folder, former, {**former, stage: _digests(plan)[stage]})


def _digests(plan: Plan) -> dict[str, str]:
    trusts_code = plan.source.trusts_code
    return {stage.name: _digest(plan, stage.name, trusts_code=trusts_code) for stage in plan.stages}


def _former(folder: RunFolder) -> dict[str, str | None]:
    try:
        found: dict[str, str | None] = json.loads(folder.text("digests.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _remember(folder: RunFolder, former: Mapping[str, str | None], now: Mapping[str, str | None]) -> None:
    if former != now:
        folder.write("digests.json", json.dumps(now, indent=2) + "\n")


def other_versions(former: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """A sentence on libraries with other versions than when the run began; None if all are the same."""
    changed = [f"{name} {former[name]} → {now[name]}" for name in now if former.get(name, now[name]) != now[name]]
    if not changed:
        return None
    return f"this run resumes with other versions than before ({', '.join(changed)}): results may differ slightly"


def _digest(plan: Plan, stage: str, *, trusts_code: bool) -> str:
    """A fingerprint of all settings that the result of a stage depends on: its own and those of earlier stages."""
    written = plan.spec.model_dump(mode="json", by_alias=True)
    names = list(written["stages"])
    stages = {name: written["stages"][name] for name in names[: names.index(stage) + 1]}
    for each in stages.values():
        for key in ("log_every", "checkpoint"):  # neither data nor weights depend on these
            each["training"].pop(key)
        each["training"]["teacher_cache"].pop("folder")
    models = _models(plan, set(stages))
    parts = {
        "seed": written["seed"],
        "tasks": written["tasks"],
        "models": {name: model for name, model in written["models"].items() if name in models},
        "adaptors": {name: adaptor for name, adaptor in written["adaptors"].items() if name in models},
        "stages": stages,
        # Only if set, so that the digests of other runs stay the same.
        **({"trusts_code": True} if trusts_code else {}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _models(plan: Plan, stages: set[str]) -> set[str]:
    """The models of the stages, and those that they are built from."""
    waiting = [model for stage in plan.stages if stage.name in stages for model in stage.models]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += plan.spec.models[name].uses()
    return found


def _other_trust(plan: Plan, changed: tuple[str, ...], former: Mapping[str, str | None]) -> Iterator[str]:
    """The difference in `--trust-remote-code` between the beginning of the run and now."""
    before = not plan.source.trusts_code
    if any(former.get(name) == _digest(plan, name, trusts_code=before) for name in changed):
        yield "`--trust-remote-code` " + ("was given and is not" if before else "was not given and is")


def _differences(plan: Plan, folder: RunFolder) -> list[str]:
    """The differences between the spec that the run began with and this one, one line each."""
    try:
        former = yaml.safe_load(folder.text("spec.yaml") or "{}")
    except yaml.YAMLError:
        return []
    lines = list(_between(former, yaml.safe_load(resolved(plan)), ""))
    return [*lines[:_LISTED], f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else lines


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
