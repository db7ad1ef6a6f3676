"""The parameters of a component, and the components among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kdspec.api.component import Component, Strict


def fields(group: Strict) -> Iterator[tuple[str, Any]]:
    """The parameters of a component or a group of them, by their names in a spec, with their values."""
    for name, field in type(group).model_fields.items():
        yield field.alias or name, getattr(group, name)


def parts(group: Strict) -> Iterator[Component]:
    """The components among the parameters."""
    return (value for _, value in fields(group) if isinstance(value, Component))
