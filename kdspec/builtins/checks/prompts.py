"""The check for prompts that no model of a task has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.diagnostic import closest, excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """A prompt that a task names and none of its models has."""
    for name, task in plan.spec.tasks.items():
        models = dict.fromkeys(
            model for stage in plan.stages if name in stage.tasks for model in stage.tasks[name].models
        )
        known = {model: _prompts(plan, model) for model in models}
        names = list(dict.fromkeys(prompt for prompts in known.values() for prompt in prompts or () if prompt))
        for place, prompt in task.prompts().items():
            if not models or None in known.values() or prompt in names:
                continue
            guess = closest(prompt, names)
            listed = ", ".join(f"`{excerpt(each)}`" for each in names)
            yield Finding(
                "KD204",
                f"unknown prompt `{excerpt(prompt)}`",
                ("tasks", name, task.name, *place),
                f"no model of task `{name}` has it",
                notes=() if guess else (f"their prompts are {listed}" if names else "its models have no prompts",),
                help=f"did you mean `{guess}`?" if guess else "leave it out, or write it into the `readout` of a model",
                fix=(prompt, guess) if guess else None,
            )


def _prompts(plan: Plan, model: str) -> list[str] | None:
    """The names of the prompts of a model; None if its files cannot be read now, which is reported elsewhere."""
    try:
        return list(plan.spec.models[model].prompts(plan.context(model)))
    except (Fault, OSError):
        return None
