"""Validates a document into a spec, or into diagnostics of all errors in its shape, each at its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kdspec.api.kinds.kinds import Task
from kdspec.api.spec.spec import Spec
from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span
from kdspec.registry.registry import Registry
from kdspec.source.document import Document
from kdspec.spec.check.pydantic_errors import explain

__all__ = ["Checked", "check"]


@dataclass(frozen=True)
class CheckedSpec:
    """A spec, or the errors in the shape of the document."""

    spec: Spec | None
    errors: tuple[Diagnostic, ...] = ()
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """Without a spec the tasks in which there is no error: errors elsewhere hide none in their data."""


def check(document: Document, registry: Registry, *, files: bool = True) -> CheckedSpec:
    """Validate a document: its keys, its values and the names of its components; with `files`, that those it names exist."""
    if document.data is None:
        label = Label(
            document.values.get((), Span(next(iter(document.sources)), 0, 0, 0, 0)), "nothing is written here"
        )
        empty = Diagnostic("KD102", "the spec is empty", label, help="a spec begins with `kdspec: 1`")
        return CheckedSpec(None, (empty,))
    try:
        folder = document.folder if files else None
        context = {"registry": registry, "folder": folder, "within": document.within}
        spec = Spec.model_validate(document.data, context=context)
    except ValidationError as error:
        found = error.errors(include_url=False)
        places = [tuple(each["loc"]) for each in found]
        return CheckedSpec(None, explain(found, document, registry), _sound(document.data, places, context))
    return CheckedSpec(spec)


def _sound(data: Any, wrong: Iterable[tuple[Any, ...]], context: Mapping[str, Any]) -> dict[str, Task]:
    """The tasks of a misshapen spec that are as they should be, given the places of all errors."""
    places = {place[:2] for place in wrong}
    tasks = data.get("tasks") if isinstance(data, dict) else None
    if not isinstance(tasks, dict) or ("tasks",) in places or () in places:
        return {}
    shape: TypeAdapter[Task] = TypeAdapter(Task)
    sound = {name: value for name, value in tasks.items() if ("tasks", name) not in places}
    return {name: shape.validate_python(value, context=dict(context)) for name, value in sound.items()}
