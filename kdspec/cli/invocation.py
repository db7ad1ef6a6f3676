"""One invocation of the command line: its output streams, and its plugins, which load when first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.signals import StopSignal

if TYPE_CHECKING:
    from kdspec.cli.screen import Screen
    from kdspec.launch.spec_reading import Reading
    from kdspec.registry.plugins import Plugins
    from kdspec.registry.registry import Registry
    from kdspec.render.formats import Detail


class Invocation:
    """The `context.obj` of a command."""

    def __init__(self, *, owns_process: bool = False) -> None:
        """`owns_process`: whether the process ends with the command."""
        self.plugin_files: Sequence[str] = ()
        self.trusts_code = False
        self.untrusted = False
        """Whether specs are confined to their folders."""
        self.detail: Detail = "normal"
        """How much of the progress is printed."""
        self.owns_process = owns_process
        self.stop = StopSignal(owns_process=owns_process)
        """What stops the command on a signal."""
        self.stop.saved = "no file is half written: the same command starts again"

    def be(self, detail: Detail) -> None:
        """Print more or less of the progress."""
        self.detail = detail
        self.err.shows_progress = detail != "quiet"

    def read(self, path: str, sets: Sequence[str] = ()) -> Reading:
        """Read a spec with the plugins and options of this invocation; values of its variables are not printed."""
        from kdspec.launch import spec_reading

        options = {"trusts_code": self.trusts_code, "untrusted": self.untrusted}
        return self.printing(spec_reading.read(path, self.registry, sets, **options))

    def printing(self, reading: Reading) -> Reading:
        """The reading of a spec; from now on the values of its variables are not printed."""
        if reading.document is not None:
            found = reading.document.variables.knowing(self.registry.words)
            self.out.variables = self.err.variables = self.err.variables.beside(found)
        return reading

    def trace(self, error: DiagnosticError | FindingError) -> None:
        """With `--traceback`, print where an error was raised; the causes of its findings are printed with them."""
        found = error.diagnostics if isinstance(error, DiagnosticError) else error.findings
        if all(each.cause is None for each in found):
            self.err.trace(error)

    @cached_property
    def out(self) -> Screen:
        """Standard output, for the command's result."""
        from kdspec.cli.screen import Screen

        return Screen()

    @cached_property
    def err(self) -> Screen:
        """Standard error, for progress and errors."""
        from kdspec.cli.screen import Screen

        return Screen(stderr=True)

    @cached_property
    def plugins(self) -> Plugins:
        """Built-ins, installed packages and the files of `--plugin`."""
        from kdspec.registry import plugins

        return plugins.load(self.plugin_files)

    @cached_property
    def registry(self) -> Registry:
        """The components of all plugins. Raises `DiagnosticError` if a file of `--plugin` cannot be loaded."""
        from kdspec.launch.named_plugins import with_named

        return with_named(self.any_registry, self.plugin_files)

    @cached_property
    def any_registry(self) -> Registry:
        """The components of the plugins that loaded; the others are its `problems`."""
        from kdspec.registry import registry

        return registry.assemble(self.plugins)
