"""What the exit code of `kdspec` says."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes; scripts may rely on them."""

    FINE = 0
    """All went well; there may have been warnings."""
    SPEC = 1
    """A spec has errors."""
    USAGE = 2
    """The command was misused, or a file or plugin named on the command line cannot be read."""
    FAILED = 3
    """The run failed, or kdspec has a bug."""
    INTERRUPTED = 130
    """Ctrl-C; a run has saved a checkpoint."""
    PIPE = 141
    """Whoever read the output has closed it."""
    TERMINATED = 143
    """SIGTERM; a run has saved a checkpoint."""
