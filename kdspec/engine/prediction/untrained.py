"""Refuses a model whose head nothing has trained, where its answers are the result."""

from __future__ import annotations

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.forward.models import Models


def refuse_untrained(models: Models, model: str, task: str) -> None:
    """Raise KD503 for a model with a part that nothing has trained: its predictions are noise.

    Args:
        models: the models, as far as they are trained.
        model: the one that answers.
        task: the task of its head.
    """
    named = dict(models.module(model).named_parameters())
    drawn = sorted(name for name in models.initialised.get(model, ()) if name in named and named[name].requires_grad)
    if drawn and model not in models.trained:
        more = f" and {len(drawn) - 1} more" if len(drawn) > 1 else ""
        kind = models.plan.spec.tasks[task].name
        message = f"`{model}` has no trained head for `{kind}`: `{drawn[0]}`{more} has randomly initialised weights"
        help_ = "name a model that was trained for it"
        raise FindingError(Finding("KD503", message, models.path(model), help=help_))
