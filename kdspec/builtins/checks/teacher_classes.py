"""The rule of teachers whose answers are joined: the same classes in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.context import ModelContext
from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.context import ModelFacts
    from kdspec.api.kinds import Distiller
    from kdspec.api.spec_source import SpecSource
    from kdspec.api.step import Needs
    from kdspec.spec.spec import Spec

CODE = "KD403"


@hookimpl
def kdspec_check(spec: Spec, source: SpecSource) -> Iterator[Finding]:
    """Teachers of a stage whose files have heads for other classes than the first one's, or in another order."""
    trained: set[str] = set()
    for name, stage in spec.stages.items():
        needs = stage.distiller.needs()
        for part in needs.each:
            yield from _agree(spec, source, name, part, trained)
        yield from _joined(spec, name, stage.distiller, needs)
        trained.add(needs.student)


def _joined(spec: Spec, stage: str, distiller: Distiller, needs: Needs) -> Iterator[Finding]:
    """Ways of joining that are about the probabilities of classes, for logits that are something else."""
    soft = getattr(distiller, "soft_labels", None)
    path = ("stages", stage, "distiller", distiller.name, "soft_labels")
    for task in needs.tasks or tuple(spec.tasks)[:1]:
        logits = spec.tasks[task].logits if task in spec.tasks else None
        if logits in (None, "classes") or len(needs.teachers) < 2:
            continue
        for key, value in (("combine", "probabilities"), ("teacher_weights", "confidence")):
            if getattr(soft, key, None) == value:
                message = f"`{key}: {value}` is about classes of which one is right, and task `{task}` has {logits}"
                where = Mark(("tasks", task), f"has {logits}", key=True)
                help_ = "join the logits, with a number for each teacher or none"
                yield Finding("KD313", message, *Mark((*path, key), "does not fit the task"), (where,), help=help_)


def _agree(spec: Spec, source: SpecSource, stage: str, needs: Needs, trained: set[str]) -> Iterator[Finding]:
    """What a stage has trained has the head of its task; where an adaptor is written it may choose among the classes."""
    asked = [
        teacher
        for teacher in needs.teachers
        if teacher in spec.models
        and teacher not in trained | spec.adaptors.keys()
        and "logits" in needs.reads.get(teacher, frozenset())
    ]
    known = [(teacher, found) for teacher in asked if (found := _facts(spec, source, teacher)).classes is not None]
    for teacher, found in known[1:]:
        first, other = known[0]
        differ = _difference(other, found)
        if differ is None:
            continue
        what, sides = differ
        label = Mark(("models", teacher), sides[1], key=True)
        beside = Mark(("models", first), sides[0], key=True)
        message = f"teachers `{first}` and `{teacher}` of stage `{stage}` have {what}"
        help_ = (
            "joined teachers need the same classes in the same order; train one of them on the task in a stage before"
        )
        yield Finding(CODE, message, *label, also=(beside,), help=help_)


def _facts(spec: Spec, source: SpecSource, model: str) -> ModelFacts:
    context = ModelContext(folder=source.folder, seed=spec.seed, name=model, models=spec.models)
    return spec.models[model].facts(context)


def _difference(first: ModelFacts, second: ModelFacts) -> tuple[str, tuple[str, str]] | None:
    if first.classes != second.classes:
        return "different numbers of classes", (f"{first.classes} classes", f"{second.classes} classes")
    if first.labels != second.labels and sorted(first.labels) == sorted(second.labels):
        return "the same classes in another order", (", ".join(first.labels), ", ".join(second.labels))
    return None
