"""What goes wrong inside a component, told as a diagnostic at the component's place in the spec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdspec.diagnostics import Diagnostic, DiagnosticError
from kdspec.fault import Fault, Within
from kdspec.source import Path
from kdspec.spec import Spec


@contextmanager
def placing(spec: Spec, path: Path, what: str) -> Iterator[None]:
    """Faults, and exhausted memory, point at `path` from here on.

    Args:
        spec: the spec that names the component.
        path: the component's parameters in the spec, which a fault's `at` goes on from.
        what: who is at work, for example "model `teacher`".
    """
    try:
        yield
    except (Fault, Within, MemoryError, RuntimeError) as error:
        found = _told(spec, path, what, error)
        if found is None:
            raise
        raise DiagnosticError(found) from error


@contextmanager
def blaming(spec: Spec, path: Path, what: str) -> Iterator[None]:
    """Run code of a component: whatever it raises points at `path`, as for `placing`."""
    try:
        with placing(spec, path, what):
            yield
    except DiagnosticError:
        raise
    except Exception as error:
        notes: tuple[str, ...] = ()
        if isinstance(error, Within):
            path, what, notes, error = (*path, *error.at), error.what, error.notes, _cause(error)
        told = f": {error}" if str(error) else ""
        message = f"{what} raised {type(error).__name__}{told}"
        help_ = "run again with `--traceback` to see where"
        raise DiagnosticError(Diagnostic("KD506", message, spec.label(path), notes=notes, help=help_)) from error


def _told(spec: Spec, path: Path, what: str, error: Exception) -> Diagnostic | None:
    """The diagnostic for what explains itself, or None."""
    if isinstance(error, Within):
        return _told(spec, (*path, *error.at), error.what, _cause(error))
    if isinstance(error, Fault):
        label = spec.label((*path, *error.at))
        return Diagnostic(error.code, error.message, label, notes=error.notes, help=error.help)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return out_of_memory(spec, path, what)
    return None


def _cause(error: Within) -> Exception:
    assert isinstance(error.__cause__, Exception), "raised from the error that it is about"
    return error.__cause__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory has run out; on the CPU only the text tells."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def out_of_memory(spec: Spec, path: Path, what: str) -> Diagnostic:
    """The diagnostic for exhausted memory."""
    help_ = "lower `batch_size` and raise `accumulate` by the same factor: the result stays the same"
    return Diagnostic("KD511", f"out of memory in {what}", spec.label(path), help=help_)
