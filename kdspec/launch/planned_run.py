"""What `kdspec.plan` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.diagnostic import Diagnostic
from kdspec.launch.as_text import as_text
from kdspec.planning.resolved import resolved


@dataclass(frozen=True, repr=False)
class PlannedRun:
    """What would run. Its text is what `kdspec plan` prints."""

    plan: Plan
    """With every name resolved: `stages`, `facts` of the models, `spec`."""
    data: Mapping[str, Any]
    """The plan as plain data, as `kdspec plan --json` prints it; `rehearsal` has shapes, sizes and cost."""
    diagnostics: tuple[Diagnostic, ...] = field(default=(), compare=False)
    """Warnings and notes."""

    @property
    def spec(self) -> str:
        """The complete spec as YAML, with every default."""
        return resolved(self.plan)

    def __repr__(self) -> str:
        from kdspec.render.plan import page

        return as_text(page(self.plan.source.variables.hide_in(dict(self.data))))
