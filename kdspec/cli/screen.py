"""Standard output and standard error as consoles."""

from __future__ import annotations

import json
import os
import traceback
from typing import Any, NoReturn

from rich.console import Console
from rich.status import Status
from rich.text import Text

from kdspec.source.variables import Variables

# A log or a pipe has no width; rich's default of 80 columns would truncate the lines of most specs.
_UNKNOWN_WIDTH = 120


class Screen(Console):
    """A console that prints text as it is: no markup, no wrapping, colours only on a terminal and without NO_COLOR."""

    def __init__(self, *, stderr: bool = False) -> None:
        self.traceback = False
        self.shows_progress = True
        self.variables = Variables()
        """Of the spec that is read: their names are printed in place of their values."""
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _UNKNOWN_WIDTH

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, without the values of variables."""
        super().print(*map(self._hidden, objects), **options)

    def _hidden(self, shown: Any) -> Any:
        if isinstance(shown, str):
            return self.variables.hide(shown)
        if isinstance(shown, Text) and (text := self.variables.hide(shown.plain)) != shown.plain:
            return Text(text, shown.style, no_wrap=shown.no_wrap, overflow=shown.overflow)
        return shown

    def status(self, *status: Any, **options: Any) -> Status:
        """As rich's; nothing is shown with `--quiet`."""
        if self.shows_progress:
            return super().status(*status, **options)
        return Console(quiet=True).status(*status, **options)

    def show(self, text: Text | str) -> None:
        """Print text that already has its line breaks."""
        self.print(text, end="")

    def say(self, text: Text | str = "") -> None:
        """Print one line."""
        self.print(text)

    def trace(self, error: BaseException) -> None:
        """Print the traceback of an error, if `--traceback` is given."""
        if self.traceback:
            self.show("".join(traceback.format_exception(error)))

    def data(self, value: Any) -> None:
        """Print a value as JSON."""
        self.print(json.dumps(self.variables.hide_in(value), indent=2))

    def on_broken_pipe(self) -> NoReturn:
        """Raise, so that `main` handles it: rich would exit with the code of a bad spec."""
        self.quiet = True
        raise BrokenPipeError
