"""The command line: `kdspec COMMAND`. Each built-in command is a plugin, as third-party ones are."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import sys
from collections.abc import Sequence

from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.threads import share_processors
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.signals import Stop

_UNSUPPORTED = (
    "error: kdspec runs on Linux and macOS; this system has no file locks of Unix (the module `fcntl`), as Windows. "
    "There, run it in WSL, the Windows Subsystem for Linux"
)

__all__ = ["ExitCode", "Invocation", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those of the process by default. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name may have characters that the terminal's encoding lacks: print a substitute, do not fail.
            stream.reconfigure(errors="backslashreplace")
    if arguments is None:
        share_processors(os.environ)
    invocation = Invocation(owns_process=arguments is None)
    if importlib.util.find_spec("fcntl") is None:
        invocation.err.say(_UNSUPPORTED)
        return ExitCode.USAGE
    with invocation.stop:
        try:
            code = _run(invocation, sys.argv[1:] if arguments is None else list(arguments))
            sys.stdout.flush()
        except BrokenPipeError:
            _silence_stdout()
            code = ExitCode.PIPE
        except Stop as asked:
            code = _stopped(invocation, asked.number)
        if invocation.owns_process and invocation.stop.requested is not None:
            # The end of the interpreter takes seconds where torch is loaded, and waits for the threads of plugins.
            sys.stderr.flush()
            os._exit(code)
    return code


def _run(invocation: Invocation, arguments: list[str]) -> int:
    from kdspec.cli.application import application

    try:
        application().main(args=arguments, prog_name="kdspec", obj=invocation)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else ExitCode.FINE if stop.code is None else ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (DiagnosticError, FindingError) as error:
        if invocation.stop.requested is not None and invocation.stop.made(error):
            return _stopped(invocation, invocation.stop.requested)
        invocation.trace(error)
        return _explain(invocation, error)
    except Exception as error:  # noqa: BLE001 - a traceback is printed on request only
        if invocation.stop.requested is not None and invocation.stop.made(error):
            return _stopped(invocation, invocation.stop.requested)
        invocation.err.trace(error)
        if not invocation.err.traceback:
            text = f"kdspec has a bug: {type(error).__name__}: {error}".splitlines()[0]
            invocation.err.say(f"{text}; run again with --traceback")
        return ExitCode.FAILED
    return ExitCode.FINE


def _stopped(invocation: Invocation, number: int) -> int:
    """Say what the disk has after a signal, and how to go on."""
    invocation.stop.arrived()
    invocation.err.say(f"stopped; {invocation.stop.saved}")
    return ExitCode.TERMINATED if number == signal.SIGTERM else ExitCode.INTERRUPTED


def _explain(invocation: Invocation, error: DiagnosticError | FindingError) -> ExitCode:
    from kdspec.diagnostics.place import place
    from kdspec.render.diagnostics import full
    from kdspec.source.document import Source

    texts = error.texts if isinstance(error, DiagnosticError) else {}
    diagnostics = error.diagnostics if isinstance(error, DiagnosticError) else place(error.findings, None)
    sources = {name: Source(name, text) for name, text in texts.items()}
    for diagnostic in diagnostics:
        invocation.err.show(full(diagnostic, sources, invocation.err.width))
        if diagnostic.cause is not None:
            invocation.err.trace(diagnostic.cause)
    # Wrong files, plugins and processes of the command line are misuse; errors in the spec have a code of their own.
    misused = any(diagnostic.code in {"KD003", "KD203", "KD508", "KD513", "KD530"} for diagnostic in diagnostics)
    return ExitCode.USAGE if misused else ExitCode.SPEC


def _silence_stdout() -> None:
    """Redirect stdout, which Python flushes again on exit: a reader that closed the pipe is not an error."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stdout without a file
        return
