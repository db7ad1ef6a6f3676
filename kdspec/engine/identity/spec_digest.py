"""A fingerprint of the settings that the result of a stage depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection

from kdspec.api.plan.plan import Plan


def spec_digests(plan: Plan) -> dict[str, str]:
    """The fingerprint of each stage."""
    trusts_code = plan.source.trusts_code
    return {stage.name: spec_digest(plan, stage.name, trusts_code=trusts_code) for stage in plan.stages}


def spec_digest(plan: Plan, stage: str, *, trusts_code: bool) -> str:
    """The fingerprint of a stage: of its own settings and those of earlier stages, with or without `--trust-remote-code`."""
    written = plan.spec.model_dump(mode="json", by_alias=True)
    names = list(written["stages"])
    stages = {name: written["stages"][name] for name in names[: names.index(stage) + 1]}
    for each in stages.values():
        for key in ("log_every", "checkpoint"):  # neither data nor weights depend on these
            each["training"].pop(key)
        each["training"]["teacher_cache"].pop("folder")
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
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def models_of(plan: Plan, stages: Collection[str]) -> set[str]:
    """The models of the stages, and those that they are built from."""
    waiting = [model for stage in plan.stages if stage.name in stages for model in stage.models]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += plan.spec.models[name].uses()
    return found
