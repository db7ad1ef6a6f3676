"""A plugin with a loss that another one has too."""

from __future__ import annotations

from kdspec import BuildContext, Component, LogitLoss, hookimpl


class Dkd(LogitLoss):
    """A loss that nobody computes."""

    name = "dkd"

    def build(self, context: BuildContext):
        raise AssertionError("validation builds nothing")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    return [Dkd]
