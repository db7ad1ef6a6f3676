"""The rule of tasks whose logits choose among tokens: one tokenizer for all models of a stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.context import ModelContext
from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.spec_source import SpecSource
    from kdspec.spec.spec import Spec

CODE = "KD402"


@hookimpl
def kdspec_check(spec: Spec, source: SpecSource) -> Iterator[Finding]:
    """Teachers whose tokenizer is known to be another one than the student's, where answers are positions."""
    for stage, planned in spec.stages.items():
        needs = planned.distiller.needs()
        tasks = [task for task in needs.tasks or tuple(spec.tasks)[:1] if task in spec.tasks]
        if needs.student not in spec.models or not any(spec.tasks[task].positions for task in tasks):
            continue
        own = _tokenizer(spec, source, needs.student)
        for teacher in needs.teachers:
            theirs = _tokenizer(spec, source, teacher) if teacher in spec.models else None
            if own is None or theirs is None or own == theirs:
                continue
            message = f"`{needs.student}` cannot follow `{teacher}` in stage `{stage}`: their tokenizers differ"
            note = f"the task `{tasks[0]}` answers with positions, which mean something else to another tokenizer"
            label = Mark(("models", teacher), "has another tokenizer", key=True)
            where = (Mark(("models", needs.student), "has its own", key=True),)
            help_ = "make the student `like` its teacher, or train a teacher with the student's `tokenizer`"
            yield Finding(CODE, message, *label, also=where, notes=(note,), help=help_)


def _tokenizer(spec: Spec, source: SpecSource, model: str) -> str | None:
    context = ModelContext(folder=source.folder, seed=spec.seed, name=model, models=spec.models)
    return spec.models[model].tokenizer_id(context)
