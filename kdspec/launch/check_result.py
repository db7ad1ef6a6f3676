"""What `kdspec.check` returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdspec.diagnostics.diagnostic import Diagnostic


@dataclass(frozen=True, repr=False)
class CheckResult:
    """The diagnostics of a spec. Its text is what `kdspec validate` prints."""

    diagnostics: tuple[Diagnostic, ...]
    """Errors, warnings and notes, in the order of the spec."""
    text: str = field(compare=False)

    @property
    def ok(self) -> bool:
        """Whether the spec can be run: there is no error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that forbid a run."""
        return tuple(each for each in self.diagnostics if each.severity == "error")

    def __repr__(self) -> str:
        return self.text
