"""The components of a command or call: built-ins, installed packages, and the plugins that the user has named."""

from __future__ import annotations

from collections.abc import Iterable

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.registry.registry import Registry


def with_named(registry: Registry, named: Iterable[str]) -> Registry:
    """The same registry. Raises `DiagnosticError` if one of the named plugins, files or modules, is not loaded."""
    loaded = {plugin.origin for plugin in registry.plugins.loaded}
    failed = [p for p in registry.problems if p.origin in {*named} and p.origin not in loaded]
    if failed:
        raise DiagnosticError(
            *(Diagnostic("KD203", f"cannot load the plugin `{p.origin}`: {p.reason}", cause=p.cause) for p in failed)
        )
    return registry
