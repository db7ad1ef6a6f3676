"""Validates a document into a spec, or into diagnostics of all errors in its shape, each at its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """Without a spec the tasks in which there is no error, or none without the keys that are `left_out`: errors elsewhere
    hide none in their data."""
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The keys of a task's parameters in which there are errors; the task in `tasks` has their defaults."""


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
        # A key that is not known may be a column's: what its task reads is not known then.
        places = [tuple(each["loc"][:2] if each["type"] == "unknown_key" else each["loc"]) for each in found]
        tasks, left_out = _sound(document.data, places, context)
        return CheckedSpec(None, explain(found, document, registry), tasks, left_out)
    return CheckedSpec(spec)


def _sound(
    data: Any, wrong: Collection[tuple[Any, ...]], context: Mapping[str, Any]
) -> tuple[dict[str, Task], dict[str, frozenset[str]]]:
    """The tasks of a misshapen spec that are as they should be without the keys that have errors, and these keys.

    Args:
        data: the spec.
        wrong: the places of all errors.
        context: that of the validation.
    """
    tasks = data.get("tasks") if isinstance(data, dict) else None
    found: dict[str, Task] = {}
    left_out: dict[str, frozenset[str]] = {}
    if not isinstance(tasks, dict) or any(place in ((), ("tasks",)) for place in wrong):
        return found, left_out
    shape: TypeAdapter[Task] = TypeAdapter(Task)
    for name, written in tasks.items():
        places = [place[2:] for place in wrong if place[:2] == ("tasks", name)]
        keys = frozenset(place[1] for place in places if len(place) > 1)
        if any(len(place) < 2 for place in places):
            continue  # an error is not in a parameter
        try:
            found[name] = shape.validate_python(_without(written, keys), context=dict(context))
        except ValidationError:  # the task needs one of the keys
            continue
        left_out[name] = keys
    return found, left_out


def _without(written: Any, keys: frozenset[str]) -> Any:
    """A component, as it is written, without these parameters; one without parameters is as it is."""
    if not isinstance(written, dict):
        return written
    return {
        name: {key: value for key, value in given.items() if key not in keys} if isinstance(given, dict) else given
        for name, given in written.items()
    }
