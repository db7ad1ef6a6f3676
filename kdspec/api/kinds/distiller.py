"""The kind `distiller`: a strategy, and the context from which its objective is built."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import Scoped
from kdspec.api.kinds.model import ModelFacts
from kdspec.api.plan.needs import Needs
from kdspec.api.spec.match import PlannedMatch

if TYPE_CHECKING:
    from kdspec.api.working.objective import Objective
    from kdspec.api.working.task import BuiltTask


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ObjectiveContext(BuildContext):
    """What a distiller may read to build its objective."""

    tasks: Mapping[str, BuiltTask] = field(default_factory=_nothing)
    """The tasks of the stage by name."""
    matches: tuple[PlannedMatch, ...] = ()
    """The distiller's matches, expanded to layers, with widths filled in."""
    facts: Mapping[str, ModelFacts] = field(default_factory=_nothing)
    """The facts of each model."""


class Distiller(Scoped):
    """A strategy: `needs()` returns the models and features that it reads, `build` makes its `Objective`."""

    kind: ClassVar[str] = "distiller"

    @abstractmethod
    def needs(self) -> Needs:
        """Which models train and teach, and which features the terms read. Torch-free."""

    @abstractmethod
    def build(self, context: ObjectiveContext) -> Objective:
        """Make the objective of a stage."""
