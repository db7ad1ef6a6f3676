"""Turns exceptions of a component into findings at the component's place in the spec."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType

from kdspec.diagnostics.fault import Fault, Within
from kdspec.diagnostics.finding import TRACEBACK, Finding, FindingError, SpecPath, of_fault


def placing(path: SpecPath, what: str) -> AbstractContextManager[None]:
    """A context in which faults and out-of-memory errors get the place `path`; it may be entered repeatedly.

    Args:
        path: the component's parameters in the spec; the `at` of a fault is relative to it.
        what: the component in messages, for example "model `teacher`".
    """
    return _Context(partial(_explained, path, what))


def error_context(path: SpecPath, what: str) -> AbstractContextManager[None]:
    """A context for code of a component: any exception becomes a finding at `path`, as for `placing`."""
    return _Context(partial(_finding, path, what))


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


def _finding(path: SpecPath, what: str, error: _Raised) -> Finding:
    """The finding for any exception of a component."""
    found = _explained(path, what, error)
    if found is not None:
        return found
    notes: tuple[str, ...] = ()
    if isinstance(error, Within):
        path, what, notes, error = (*path, *error.at), error.what, error.notes, _cause(error)
    text = f": {error}" if str(error) else ""
    message = f"{what} raised {type(error).__name__}{text}"
    return Finding("KD506", message, path, notes=notes, help=TRACEBACK, cause=error)


def _explained(path: SpecPath, what: str, error: _Raised) -> Finding | None:
    """The finding for faults and out-of-memory errors, or None."""
    if isinstance(error, Within):
        return _explained((*path, *error.at), error.what, _cause(error))
    if isinstance(error, Fault):
        return of_fault(error, path)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return out_of_memory(path, what)
    return None


def _cause(error: Within) -> Exception:
    assert isinstance(error.__cause__, Exception), "`Within` is raised from another error"
    return error.__cause__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch is out of memory; on the CPU it is a RuntimeError, so its text decides."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def out_of_memory(path: SpecPath, what: str) -> Finding:
    """The finding of an out-of-memory error."""
    help_ = "lower `batch_size` and raise `accumulate` by the same factor: the gradient is the same"
    return Finding("KD511", f"out of memory in {what}", path, help=help_)
