"""`python -m kdspec.cli.child_process`: `kdspec`, stopped as by SIGTERM when the process that started it is gone.

That process holds the other end of the standard input open. However it ends, also by SIGKILL, the system closes the pipe:
on Linux and macOS alike, and without a moment in which it goes unnoticed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from kdspec.cli import main


def _follow(pipe: int) -> None:
    """Wait for the end of the pipe, and stop this process: a run saves at the end of its step, and can be resumed."""
    while os.read(pipe, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # A pipe of its own: what reads the standard input finds it empty, as without a terminal.
    pipe = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=_follow, args=(pipe,), daemon=True, name="kdspec-parent").start()
    sys.exit(main())
