"""What rich prints, as text for programs and notebooks."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

_WIDTH = 120


def as_text(shown: RenderableType) -> str:
    """The lines that a console of 120 columns prints, without colours and trailing spaces."""
    console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, markup=False, emoji=False)
    with console.capture() as printed:
        console.print(shown)
    return "\n".join(line.rstrip() for line in printed.get().strip("\n").split("\n")) + "\n"
