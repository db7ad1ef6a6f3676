"""The rule of teachers whose answers are joined: the same classes in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.context import BuildContext
from kdspec.diagnostics import Diagnostic
from kdspec.hookspecs import hookimpl

if TYPE_CHECKING:
    from kdspec.context import ModelFacts
    from kdspec.spec import Spec
    from kdspec.step import Needs

CODE = "KD403"


@hookimpl
def kdspec_check(spec: Spec) -> Iterator[Diagnostic]:
    """Teachers of a stage whose files have heads for other classes than the first one's, or in another order."""
    trained: set[str] = set()
    for name, stage in spec.stages.items():
        needs = stage.distiller.needs()
        yield from _agree(spec, name, needs, trained)
        trained.add(needs.student)


def _agree(spec: Spec, stage: str, needs: Needs, trained: set[str]) -> Iterator[Diagnostic]:
    """What a stage has trained has the head of its task; where an adaptor is written it may choose among the classes."""
    asked = [
        teacher
        for teacher in needs.teachers
        if teacher in spec.models
        and teacher not in trained | spec.adaptors.keys()
        and "logits" in needs.reads.get(teacher, frozenset())
    ]
    known = [(teacher, found) for teacher in asked if (found := _facts(spec, teacher)).classes is not None]
    for teacher, found in known[1:]:
        first, other = known[0]
        differ = _difference(other, found)
        if differ is None:
            continue
        what, sides = differ
        label = spec.label(("models", teacher), sides[1], key=True)
        beside = spec.label(("models", first), sides[0], key=True)
        message = f"teachers `{first}` and `{teacher}` of stage `{stage}` have {what}"
        help_ = (
            "joined teachers need the same classes in the same order; train one of them on the task in a stage before"
        )
        yield Diagnostic(CODE, message, label, (beside,), help=help_)


def _facts(spec: Spec, model: str) -> ModelFacts:
    context = BuildContext(folder=spec.document.folder, seed=spec.seed, name=model, models=spec.models)
    return spec.models[model].facts(context)


def _difference(first: ModelFacts, second: ModelFacts) -> tuple[str, tuple[str, str]] | None:
    if first.classes != second.classes:
        return "different numbers of classes", (f"{first.classes} classes", f"{second.classes} classes")
    if first.labels != second.labels and sorted(first.labels) == sorted(second.labels):
        return "the same classes in another order", (", ".join(first.labels), ", ".join(second.labels))
    return None
