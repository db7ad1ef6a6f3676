"""The rule that a stage trains something for somebody: a later stage, the comparison at the end, or the result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.spec.spec import Spec


@hookimpl
def kdspec_check(spec: Spec) -> list[Finding]:
    """Stages whose student is used by nothing that comes after them."""
    names = list(spec.stages)
    needs = [stage.distiller.needs() for stage in spec.stages.values()]
    taught = [index for index, need in enumerate(needs) if need.teachers]
    final = (taught or range(len(needs)))[-1]
    found = []
    for index, name in enumerate(names):
        student = needs[index].student
        later = _with_sources(spec, (m for need in needs[index + 1 :] for m in (need.student, *need.teachers)))
        if student in {*later, needs[final].student}:
            continue
        before = [at for at in range(index) if student in needs[at].teachers]
        if before:
            found.append(_too_late(name, student, names[before[-1]]))
        elif not _compared(spec, needs[index].tasks):
            message = (
                f"nothing uses what stage `{name}` trains: it is no result, and there are no rows to compare it on"
            )
            label = Mark(("stages", name), f"trains `{student}`", key=True)
            found.append(Finding("KD305", message, *label, severity="warning"))
    return found


def _too_late(name: str, student: str, earlier: str) -> Finding:
    message = f"`{student}` is trained after it has taught, and no later stage uses it"
    label = Mark(("stages", name), f"trains `{student}`", key=True)
    other = Mark(("stages", earlier), f"learns from `{student}`", key=True)
    help_ = f"put stage `{name}` before `{earlier}`"
    return Finding("KD305", message, *label, also=(other,), help=help_, severity="warning")


def _with_sources(spec: Spec, models: Iterable[str]) -> set[str]:
    """The models, and those that they are made from; names of no model are told of elsewhere."""
    found: set[str] = set()
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.add(model)
            waiting += spec.models[model].uses() if model in spec.models else ()
    return found


def _compared(spec: Spec, tasks: tuple[str, ...]) -> bool:
    """Whether there may be rows on which models are compared at the end."""
    data = [getattr(spec.tasks[task], "data", None) for task in tasks or tuple(spec.tasks) if task in spec.tasks]
    return any(getattr(each, split, ...) is not None for each in data for split in ("validation", "test"))
