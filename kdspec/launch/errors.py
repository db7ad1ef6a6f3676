"""What the functions in Python raise for errors of the user: exceptions whose text is what the command prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.render import diagnostics as render
from kdspec.source.document import Source
from kdspec.source.variables import Variables

_WIDTH = 100


class _PrintedError(DiagnosticError):
    """`diagnostics` has them one by one; each has its code, message and place."""

    def __init__(self, diagnostics: Iterable[Diagnostic], text: str) -> None:
        super().__init__(*diagnostics)
        self._text = text

    def __str__(self) -> str:
        # The line of a traceback begins with the name of the class.
        return f"\n\n{self._text}"


class SpecError(_PrintedError):
    """The spec has errors, or cannot be read. `diagnostics` has them; the text shows each at its line."""

    __module__ = "kdspec"


class RunError(_PrintedError):
    """The run failed, or a folder has no finished run. `diagnostics` has the reasons."""

    __module__ = "kdspec"


def printed(
    diagnostics: Iterable[Diagnostic],
    sources: Mapping[str, Source] = MappingProxyType({}),
    variables: Variables | None = None,
) -> str:
    """The diagnostics as the command prints them: message, lines of the spec, notes and help.

    Args:
        diagnostics: of one spec.
        sources: the texts that are quoted.
        variables: whose names are shown in place of their values.
    """
    text = "\n".join(render.full(each, sources, _WIDTH).plain for each in diagnostics)
    return text if variables is None else variables.hide(text)
