"""A plugin with a mistake in its check."""

from __future__ import annotations

from kdspec import hookimpl


@hookimpl
def kdspec_check(plan):
    return [plan.spec.no_such_attribute]
