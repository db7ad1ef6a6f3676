"""A fingerprint of the settings that the result of a stage depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from kdspec.api.plan.plan import Plan
from kdspec.planning import resolved


def spec_digests(plan: Plan, salt: str) -> dict[str, str]:
    """The fingerprint of each stage; `salt` is that of the run folder."""
    trusts_code = plan.source.trusts_code
    return {stage.name: spec_digest(plan, stage.name, salt, trusts_code=trusts_code) for stage in plan.stages}


def spec_digest(plan: Plan, stage: str, salt: str, *, trusts_code: bool) -> str:
    """The fingerprint of a stage: of its own settings and those of earlier stages, with or without `--trust-remote-code`.

    A variable is in it by its name and a fingerprint of its value, so that it does not help to guess the value.
    """
    written = _written(plan)
    names = list(written["stages"])
    stages = {name: written["stages"][name] for name in names[: names.index(stage) + 1]}
    for each in stages.values():
        for key in ("log_every", "checkpoint"):  # neither data nor weights depend on these
            each["training"].pop(key)
        if isinstance(cache := each["training"]["teacher_cache"], dict):  # or a variable
            cache.pop("folder")
    models = models_of(plan, stages.keys())
    parts = {
        "seed": written["seed"],
        "tasks": written["tasks"],
        "models": {name: model for name, model in written["models"].items() if name in models},
        "adaptors": {name: adaptor for name, adaptor in written["adaptors"].items() if name in models},
        "stages": stages,
        # Only if set, so that the digests of other runs stay the same.
        **({"trusts_code": True} if trusts_code else {}),
    }
    if known := plan.source.variables.fingerprints(json.dumps(parts), salt):
        parts["variables"] = known
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _written(plan: Plan) -> Any:
    if not plan.source.variables.values:
        return plan.spec.model_dump(mode="json", by_alias=True)
    return json.loads(json.dumps(resolved.written(plan)))


def models_of(plan: Plan, stages: Collection[str]) -> set[str]:
    """The models of the stages, those that make rows of their tasks, and those that they are built from."""
    of = [stage for stage in plan.stages if stage.name in stages]
    waiting = [model for stage in of for model in stage.models]
    waiting += [
        model for stage in of for task in stage.tasks for model in plan.spec.tasks[task].models_named().values()
    ]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += plan.spec.models[name].uses()
    return found
