"""What goes wrong inside a component, told as a diagnostic at the component's place in the spec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdspec.diagnostics import Diagnostic, DiagnosticError
from kdspec.fault import Fault
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
    except Fault as fault:
        label = spec.label((*path, *fault.at))
        diagnostic = Diagnostic(fault.code, fault.message, label, notes=fault.notes, help=fault.help)
        raise DiagnosticError(diagnostic) from fault
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            raise DiagnosticError(out_of_memory(spec, path, what)) from error
        raise


@contextmanager
def blaming(spec: Spec, path: Path, what: str) -> Iterator[None]:
    """Run code of a component: whatever it raises points at `path`, as for `placing`."""
    try:
        with placing(spec, path, what):
            yield
    except DiagnosticError:
        raise
    except Exception as error:
        message = f"{what} raised {type(error).__name__}: {error}"
        help_ = "run again with `--traceback` to see where"
        raise DiagnosticError(Diagnostic("KD506", message, spec.label(path), help=help_)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory has run out; on the CPU only the text tells."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def out_of_memory(spec: Spec, path: Path, what: str) -> Diagnostic:
    """The diagnostic for exhausted memory."""
    help_ = "lower `batch_size` and raise `accumulate` by the same factor: the result stays the same"
    return Diagnostic("KD511", f"out of memory in {what}", spec.label(path), help=help_)
