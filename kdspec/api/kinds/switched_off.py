"""Groups of parameters whose weight is 0, so that they are without effect."""

from __future__ import annotations

from kdspec.api.component import Strict
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.kinds.parts import fields


def switched_off(group: Strict) -> tuple[str, Schedule] | None:
    """The weight of a group of parameters and its key, if it is 0 throughout: the group is then never computed."""
    weights = ((name, value) for name, value in fields(group) if isinstance(value, Schedule))
    return next(((name, weight) for name, weight in weights if weight.always_zero()), None)
