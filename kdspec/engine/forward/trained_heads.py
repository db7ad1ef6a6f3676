"""The heads in the files of models: their configurations, downloaded where they must be, and the heads of a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kdspec.api.kinds.context import TrainedHead
from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, FindingError, of_fault
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.models import Models
from kdspec.hf.embedding.readout import READING
from kdspec.hf.loaded_heads import has_head


def with_downloads(plan: Plan) -> Plan:
    """The plan with the facts of models whose configuration was not on this machine.

    Raises:
        FindingError: KD503 if one cannot be downloaded, or is not what the plan was made for.
    """
    facts = dict(plan.facts)
    for name in dict.fromkeys(model for stage in plan.stages for model in stage.models):
        component, context = plan.spec.models[name], plan.context(name)
        if facts[name].architecture is not None and not any(head.kind in READING for head in context.heads.values()):
            continue
        with error_context(("models", name, component.name), f"model `{name}`"):
            component.fetch(context)
            found, kept = component.facts(context), plan.kept.get(name)
            width = found.embedding if kept is None else kept.width
            if plan.facts[name].embedding not in (None, width):
                message = f"the vectors of `{name}` are {width} wide by the files that were downloaded now"
                help_ = f"start it again, so that it is planned with them; the plan has {plan.facts[name].embedding}"
                raise Fault("KD503", message, help=help_)
            if facts[name].architecture is not None:
                continue
            facts[name] = replace(found, embedding=width)
            for fault in component.check(replace(context, facts=facts)):
                if of_fault(fault, ()).severity == "error":
                    raise fault
    return replace(plan, facts=facts)


def trained_heads(plan: Plan, task: str) -> Iterator[TrainedHead]:
    """The heads for a task in the files of its models, those of teachers first.

    Models that name their classes in the spec have one for a task without labels: they have no head of their own, and the order
    in which a spec names the classes says nothing of the numbers in rows with labels.
    """
    component = plan.spec.tasks[task]
    parts = [stage.tasks[task] for stage in plan.stages if task in stage.tasks]
    for name in dict.fromkeys((*(name for part in parts for name in part.teachers), *(part.student for part in parts))):
        facts = plan.facts[name]
        if facts.architecture is None:
            lends = facts.by_name and not component.has_labels()
        else:
            lends = component.head is not None and has_head(facts.architecture, component.head)
        if lends and facts.classes is not None:
            yield TrainedHead(model=name, classes=facts.classes, labels=facts.labels, problem=facts.problem)


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
