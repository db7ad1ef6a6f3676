"""Turns exceptions of a component into findings at the component's place in the spec."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType

from kdspec.diagnostics.fault import Fault, Within
from kdspec.diagnostics.finding import TRACEBACK, Finding, FindingError, SpecPath, of_fault

SMALLER_BATCHES = "lower `batch_size` and raise `accumulate` by the same factor: the gradient is the same"
"""The help where the memory grows with the rows of a micro-batch."""
FEWER_ROWS = "its rows are in memory at once: give it fewer of them, or free memory"
"""The help where the memory grows with the rows of a split, whatever the micro-batches."""
OTHER_DEVICE = "free memory, or compute on another device with `--device`; the same command resumes this run"
"""The help where nothing in the spec makes the need smaller but another model."""

_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "DefaultCPUAllocator", "bad_alloc")
"""In the texts of errors of torch and of C++, which have no type of their own for this."""


@dataclass(frozen=True)
class Asks:
    """Who asks for memory in a context, and what helps if there is too little of it."""

    what: str
    help: str = SMALLER_BATCHES


def placing(path: SpecPath, what: str, asks: Asks | None = None) -> AbstractContextManager[None]:
    """A context in which faults and out-of-memory errors get the place `path`; it may be entered repeatedly.

    Args:
        path: the component's parameters in the spec; the `at` of a fault is relative to it.
        what: the component in messages, for example "model `teacher`".
        asks: who asks for memory; by default the component, for each micro-batch.
    """
    return _Context(partial(_explained, path, asks or Asks(what)))


def error_context(path: SpecPath, what: str, asks: Asks | None = None) -> AbstractContextManager[None]:
    """A context for code of a component: any exception becomes a finding at `path`, as for `placing`."""
    return _Context(partial(_finding, path, what, asks or Asks(what)))


def during(path: SpecPath, phase: str, help_: str, *, batches: str | None = None) -> AbstractContextManager[None]:
    """A context for a phase of a run, such as "while `student` is evaluated": out-of-memory errors name it too.

    Args:
        path: where the spec asks for the phase.
        phase: what the run does.
        help_: what helps if nothing inside of the phase is known to have asked for the memory.
        batches: what helps instead of `SMALLER_BATCHES` where the phase has batches of its own.
    """
    return _Phase(path, phase, help_, batches)


_CODE = "KD511"
# SystemExit too: a library that calls `sys.exit` must not end a run as if it had finished.
_Raised = Exception | SystemExit


class _Context:
    # Not `contextmanager`, which takes several times as long: a step enters a dozen of these.
    def __init__(self, explain: Callable[[_Raised], Finding | None]) -> None:
        self._explain = explain

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, _Raised) and not isinstance(error, FindingError):
            found = self._explain(error)
            if found is not None:
                raise FindingError(found) from error


class _Phase:
    def __init__(self, path: SpecPath, phase: str, help_: str, batches: str | None) -> None:
        self.path, self.phase, self.help, self.batches = path, phase, help_, batches

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, FindingError) and any(found.code == _CODE for found in error.findings):
            raise FindingError(*map(self._named, error.findings)) from error
        if error is not None and is_out_of_memory(error):
            found = Finding(_CODE, f"out of memory {self.phase}", self.path, help=self.help)
            raise FindingError(found) from error

    def _named(self, found: Finding) -> Finding:
        if found.code != _CODE:
            return found
        help_ = self.batches if self.batches is not None and found.help == SMALLER_BATCHES else found.help
        return replace(found, message=f"{found.message}, {self.phase}", help=help_)


def _finding(path: SpecPath, what: str, asks: Asks, error: _Raised) -> Finding:
    """The finding for any exception of a component."""
    found = _explained(path, asks, error)
    if found is not None:
        return found
    notes: tuple[str, ...] = ()
    if isinstance(error, Within):
        path, what, notes, error = (*path, *error.at), error.what, error.notes, _cause(error)
    text = f": {error}" if str(error) else ""
    message = f"{what} raised {type(error).__name__}{text}"
    return Finding("KD506", message, path, notes=notes, help=TRACEBACK, cause=error)


def _explained(path: SpecPath, asks: Asks, error: _Raised) -> Finding | None:
    """The finding for faults and out-of-memory errors, or None."""
    if isinstance(error, Within):
        return _explained((*path, *error.at), replace(asks, what=error.what), _cause(error))
    if isinstance(error, Fault):
        return of_fault(error, path)
    if is_out_of_memory(error):
        return Finding(_CODE, f"out of memory in {asks.what}", path, help=asks.help)
    return None


def _cause(error: Within) -> Exception:
    assert isinstance(error.__cause__, Exception), "`Within` is raised from another error"
    return error.__cause__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is exhausted: that of Python or Arrow, of the system, or of torch, whose text decides on the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
