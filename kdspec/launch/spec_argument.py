"""The spec that a function in Python is given: a file or a mapping, with replaced values and plugins."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from kdspec.api.component import Component
from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.diagnostics.place import place
from kdspec.launch import spec_reading
from kdspec.launch.errors import RunError, SpecError, printed
from kdspec.launch.named_plugins import with_named
from kdspec.launch.spec_reading import Reading
from kdspec.planning.resolved import as_yaml
from kdspec.registry.registry import Registry, load_registry
from kdspec.source.variables import Variables

SpecLike = str | os.PathLike[str] | Mapping[str, Any]
"""The path of a spec, or of a plan that `kdspec plan -o` has written, or a spec as a mapping."""
PluginLike = str | os.PathLike[str] | ModuleType | type[Component]
"""The path of a Python file, a module with hooks, or the class of a component."""
Values = Mapping[str, Any] | Sequence[str]
"""Values of the spec to replace, by their paths, or as the arguments of `--set`."""

_MAPPING = "<spec>"
"""The name of a mapping in diagnostics, which show it as YAML."""
Raised = TypeVar("Raised", SpecError, RunError)


@dataclass(frozen=True)
class SpecArgument:
    """A spec that has been read, and what it was read with."""

    reading: Reading
    registry: Registry

    @cached_property
    def variables(self) -> Variables | None:
        """The variables of the environment whose values are not shown."""
        document = self.reading.document
        return None if document is None else document.variables.knowing(self.registry.words)

    def printed(self, diagnostics: Iterable[Diagnostic]) -> str:
        """Diagnostics of this spec as text."""
        return printed(diagnostics, self.reading.sources, self.variables)

    def error(self, kind: type[Raised], diagnostics: Sequence[Diagnostic]) -> Raised:
        """An exception with diagnostics of this spec."""
        return kind(diagnostics, self.printed(diagnostics))


def read_argument(
    spec: SpecLike, values: Values | None, plugins: Sequence[PluginLike], *, trusts_code: bool
) -> SpecArgument:
    """Read and plan a spec. Errors in it are in the reading.

    Raises:
        SpecError: KD203 if a plugin cannot be loaded.
        TypeError: the mapping has a value that YAML has not.
    """
    registry = registry_with(plugins)
    sets = _sets(values)
    if isinstance(spec, Mapping):
        text = as_yaml(_plain(spec))
        found = spec_reading.read_text(text, _MAPPING, registry, sets, trusts_code=trusts_code)
    else:
        path = os.fspath(spec)
        if sets and path.endswith(".json"):
            raise ValueError("`set` cannot change a saved plan")
        # Here `-` is a name like any other: no function reads standard input.
        found = spec_reading.read("./-" if path == "-" else path, registry, sets, trusts_code=trusts_code)
    return SpecArgument(found, registry)


def registry_with(plugins: Sequence[PluginLike]) -> Registry:
    """Built-ins, installed packages and these plugins. Raises `SpecError` if one of them cannot be loaded."""
    given = [os.fspath(each) if isinstance(each, (str, os.PathLike)) else each for each in plugins]
    try:
        return with_named(load_registry(*given), [_origin(each) for each in given])
    except DiagnosticError as error:
        raise SpecError(error.diagnostics, printed(error.diagnostics)) from error.diagnostics[0].cause


def printed_findings(error: FindingError) -> tuple[tuple[Diagnostic, ...], str]:
    """Findings that are of no place in a spec, as diagnostics and as text."""
    diagnostics = place(error.findings, None)
    return diagnostics, printed(diagnostics)


def _origin(plugin: Any) -> str:
    """What the registry calls the origin of a plugin."""
    if isinstance(plugin, str):
        return str(Path(plugin))
    return plugin.__module__ if inspect.isclass(plugin) else str(plugin.__name__)


def _sets(values: Values | None) -> tuple[str, ...]:
    if values is None:
        return ()
    if isinstance(values, str):
        raise TypeError("`set` is a mapping from paths to values, or a list of texts `path=value`")
    return tuple(_written(values)) if isinstance(values, Mapping) else tuple(values)


def _written(values: Mapping[str, Any]) -> Iterator[str]:
    for path, value in values.items():
        yield f"{path}={json.dumps(_plain(value, path), ensure_ascii=False)}"


def _plain(value: Any, at: str = "") -> Any:
    """The value with the types of YAML."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case os.PathLike():
            return os.fspath(value)
        case Mapping():
            return {_key(key, at): _plain(inner, f"{at}.{key}" if at else str(key)) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner, f"{at}[{number}]") for number, inner in enumerate(value)]
    raise TypeError(f"`{at}` of the spec is of the type {type(value).__name__}, which a spec cannot have")


def _key(key: Any, at: str) -> str | int:
    if isinstance(key, (str, int)) and not isinstance(key, bool):
        return key
    raise TypeError(f"a key in `{at or 'the spec'}` is of the type {type(key).__name__}, which a spec cannot have")
