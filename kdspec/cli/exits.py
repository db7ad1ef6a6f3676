"""The exit codes of `kdspec`."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdspec.launch.spec_reading import Reading


class ExitCode(IntEnum):
    """The exit codes; scripts may rely on them."""

    FINE = 0
    """Success; there may have been warnings."""
    SPEC = 1
    """A spec has errors."""
    USAGE = 2
    """The command was misused, or a file or plugin named on the command line cannot be read."""
    FAILED = 3
    """The run failed, or kdspec has a bug."""
    INTERRUPTED = 130
    """Ctrl-C; a line says what a run has saved."""
    PIPE = 141
    """The reader of the output has closed the pipe."""
    TERMINATED = 143
    """SIGTERM; a line says what a run has saved."""


def exit_code(reading: Reading) -> ExitCode:
    """The exit code of a command that only reads a spec."""
    if reading.unreadable:
        return ExitCode.USAGE
    return ExitCode.SPEC if reading.failed else ExitCode.FINE
