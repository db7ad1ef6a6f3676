"""Standard output for the result of a command alone: what plugins and libraries print there goes to standard error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from kdspec.cli.invocation import Invocation

_STDOUT, _STDERR = 1, 2


@contextmanager
def own_stdout(invocation: Invocation, *, to_the_end: bool = False) -> Iterator[None]:
    """Within it only `invocation.out` writes to standard output.

    `print`, handlers of `logging`, `os.write(1, ...)`, C code and child processes write to standard error.

    Args:
        invocation: the one whose command writes.
        to_the_end: do not give standard output back, so that what is printed when Python ends cannot follow the result.

    Raises:
        BrokenPipeError: the reader of the result has closed the pipe.
    """
    written = sys.stdout
    with _descriptor_on_stderr(keep=to_the_end) as result:
        invocation.out.file = mine = _writer(written, result)
        sys.stdout = sys.stderr
        try:
            yield
        finally:
            try:
                mine.flush()
            except BrokenPipeError:
                if result is not None:
                    _silence(result)
                raise
            finally:
                with suppress(OSError, ValueError):  # who kept the stream may have printed to its buffer
                    written.flush()
                if not to_the_end:
                    sys.stdout = invocation.out.file = written


def _writer(stdout: TextIO, result: int | None) -> TextIO:
    """A stream for the result: on a descriptor of its own if the current one writes to the standard one."""
    if result is None or not isinstance(stdout, io.TextIOWrapper):
        return stdout
    try:
        if stdout.fileno() != _STDOUT:
            return stdout
    except OSError:  # in memory
        return stdout
    # Python's descriptor of the result is closed with its frame: the stream only borrows it.
    return open(
        result,
        "w",
        encoding=stdout.encoding,
        errors=stdout.errors,
        buffering=1 if stdout.isatty() else -1,
        closefd=False,
    )


@contextmanager
def _descriptor_on_stderr(*, keep: bool) -> Iterator[int | None]:
    """Let the descriptor of standard output lead to standard error, and give another one for its file.

    Without one of the two, as for a daemon, nothing is changed.
    """
    try:
        result = os.dup(_STDOUT)
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(_STDERR, _STDOUT)
    except OSError:
        yield None
        return
    try:
        yield result
    finally:
        if not keep:
            os.dup2(result, _STDOUT)
            os.close(result)


def _silence(descriptor: int) -> None:
    """Lead a descriptor nowhere: what a stream still has for a closed pipe is written again when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
