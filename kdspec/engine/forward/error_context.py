"""What goes wrong inside a component, told as a finding at the component's place in the spec."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType

from kdspec.diagnostics.fault import Fault, Within
from kdspec.diagnostics.finding import Finding, FindingError, SpecPath, of_fault


def placing(path: SpecPath, what: str) -> AbstractContextManager[None]:
    """A context in which faults, and exhausted memory, point at `path`; it may be entered again and again.

    Args:
        path: the component's parameters in the spec, which a fault's `at` goes on from.
        what: who is at work, for example "model `teacher`".
    """
    return _Context(partial(_told, path, what))


def error_context(path: SpecPath, what: str) -> AbstractContextManager[None]:
    """A context for code of a component: whatever it raises points at `path`, as for `placing`."""
    return _Context(partial(_blamed, path, what))


# A library that calls `sys.exit` must not end a run as if it had come to its end.
_Told = Exception | SystemExit


class _Context:
    # Not a generator, which takes several times as long: a step enters a dozen of these.
    def __init__(self, tell: Callable[[_Told], Finding | None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, _Told) and not isinstance(error, FindingError):
            found = self._tell(error)
            if found is not None:
                raise FindingError(found) from error


def _blamed(path: SpecPath, what: str, error: _Told) -> Finding:
    """The finding for anything that a component raises."""
    found = _told(path, what, error)
    if found is not None:
        return found
    notes: tuple[str, ...] = ()
    if isinstance(error, Within):
        path, what, notes, error = (*path, *error.at), error.what, error.notes, _cause(error)
    told = f": {error}" if str(error) else ""
    message = f"{what} raised {type(error).__name__}{told}"
    help_ = "run again with `--traceback` to see where"
    return Finding("KD506", message, path, notes=notes, help=help_)


def _told(path: SpecPath, what: str, error: _Told) -> Finding | None:
    """The finding for what explains itself, or None."""
    if isinstance(error, Within):
        return _told((*path, *error.at), error.what, _cause(error))
    if isinstance(error, Fault):
        return of_fault(error, path)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return out_of_memory(path, what)
    return None


def _cause(error: Within) -> Exception:
    assert isinstance(error.__cause__, Exception), "raised from the error that it is about"
    return error.__cause__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory has run out; on the CPU only the text tells."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def out_of_memory(path: SpecPath, what: str) -> Finding:
    """The finding for exhausted memory."""
    help_ = "lower `batch_size` and raise `accumulate` by the same factor: the result stays the same"
    return Finding("KD511", f"out of memory in {what}", path, help=help_)
