"""The components that a spec can name: an immutable look-up by kind and name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kdspec.api.component import Component
from kdspec.api.kinds import kinds, losses
from kdspec.api.kinds.distiller import Distiller
from kdspec.api.kinds.model import Model
from kdspec.registry import plugins
from kdspec.registry.plugins import Plugin, Plugins, Problem

KINDS: tuple[type[Component], ...] = (
    losses.LogitLoss,
    losses.FeatureLoss,
    losses.Projection,
    losses.Temperature,
    kinds.Schedule,
    kinds.LayerMap,
    kinds.MatchPreset,
    kinds.Adaptor,
    Model,
    kinds.Dataset,
    kinds.Task,
    kinds.Augmentation,
    kinds.Optimizer,
    kinds.LrSchedule,
    Distiller,
)


@dataclass(frozen=True)
class RegistryEntry:
    """A component and the plugin that provides it."""

    component: type[Component]
    plugin: Plugin

    @property
    def qualified(self) -> str:
        """The name that is never ambiguous: `<distribution>/<name>`."""
        return f"{self.plugin.distribution}/{self.component.name}"

    @property
    def builtin(self) -> bool:
        """Whether kdspec itself provides it."""
        return self.plugin.distribution == "kdspec"


@dataclass(frozen=True)
class Registry:
    """Components by kind and name. It is built once by `load_registry`, passed explicitly, and immutable."""

    entries: tuple[RegistryEntry, ...]
    problems: tuple[Problem, ...] = ()
    """Plugins, or single components, that failed to load."""
    plugins: Plugins = field(default_factory=Plugins, compare=False, repr=False)

    def find(self, kind: str, name: str) -> list[RegistryEntry]:
        """The entries of a name: none, one, or several if packages clash. Built-ins take precedence."""
        found = [entry for entry in self.entries if entry.component.kind == kind and name == entry.qualified]
        if not found:
            found = [entry for entry in self.entries if entry.component.kind == kind and name == entry.component.name]
        return [entry for entry in found if entry.builtin] or found

    def names(self, kind: str) -> list[str]:
        """The bare names of a kind, sorted."""
        return sorted({entry.component.name for entry in self.entries if entry.component.kind == kind})

    @property
    def words(self) -> frozenset[str]:
        """The names of all components, bare and with their package."""
        return frozenset(name for entry in self.entries for name in (entry.component.name, entry.qualified))

    def of_kind(self, kind: str) -> list[RegistryEntry]:
        """The entries of a kind, sorted by name."""
        return sorted(
            (e for e in self.entries if e.component.kind == kind), key=lambda e: (e.component.name, e.qualified)
        )

    def get(self, kind: str | type[Component], name: str) -> Any:
        """The class of a component: `get("logit_loss", "kl")` or `get(LogitLoss, "kl")`.

        Raises:
            KeyError: nothing has that name, or several packages provide it.
        """
        id_ = kind if isinstance(kind, str) else kind.kind
        by_class_name = {cls.__name__: cls.kind for cls in KINDS}
        found = self.find(by_class_name.get(id_, id_), name)
        if len(found) != 1:
            known = ", ".join(entry.qualified for entry in found) or ", ".join(self.names(by_class_name.get(id_, id_)))
            raise KeyError(f"{'several' if found else 'no'} {id_} named {name!r}; there are: {known}")
        return found[0].component


def load_registry(*extra: Any, installed: bool = True) -> Registry:
    """Built-ins, installed plugins and `extra`: plugin modules, component classes, or paths of Python files.

    A plugin that fails to load is in `problems`; the others are loaded. With `installed=False` the result depends on the
    arguments alone, not on installed packages.
    """
    classes = [item for item in extra if inspect.isclass(item) and issubclass(item, Component)]
    others = [item for item in extra if item not in classes]
    return assemble(plugins.load(others, installed=installed), classes)


def assemble(loaded: Plugins, classes: Sequence[type[Component]] = ()) -> Registry:
    """Collect the components of all plugins; invalid and ambiguous ones become problems."""
    entries: list[RegistryEntry] = []
    problems = list(loaded.problems)
    for answer in loaded.call("kdspec_components"):
        if answer.error is not None:
            problems.append(_problem(answer.plugin, f"kdspec_components raised {answer.error!r}"))
            continue
        for component in answer.result or ():
            _admit(component, answer.plugin, entries, problems)
    for component in classes:
        _admit(component, Plugin("extra", "", component.__name__, component.__module__, component), entries, problems)
    return Registry(tuple(entries), tuple(problems), loaded)


def _admit(component: Any, plugin: Plugin, entries: list[RegistryEntry], problems: list[Problem]) -> None:
    reason = None
    if not (inspect.isclass(component) and issubclass(component, Component) and component.concrete()):
        reason = f"{component!r} is not a component with a name"
    elif component.kind not in {kind.kind for kind in KINDS}:
        reason = f"`{component.name}` is of the unknown kind `{component.kind}`"
    elif inspect.isabstract(component):
        missing = ", ".join(sorted(component.__abstractmethods__))
        reason = f"{component.words()} `{component.name}` does not implement {missing}"
    else:
        same = [e for e in entries if e.component.kind == component.kind and e.component.name == component.name]
        if any(entry.plugin.distribution == plugin.distribution for entry in same):
            reason = f"{component.words()} `{component.name}` is provided twice"
        elif any(entry.builtin for entry in same):
            # The bare name stays the built-in's; the qualified name still finds it.
            problems.append(_problem(plugin, f"{component.words()} `{component.name}` has the name of a built-in"))
    if reason is None:
        entries.append(RegistryEntry(component, plugin))
    else:
        problems.append(_problem(plugin, reason))


def _problem(plugin: Plugin, reason: str) -> Problem:
    return Problem(plugin.distribution, plugin.version, plugin.name, plugin.origin, reason)
