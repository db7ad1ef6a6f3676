"""Finds and loads plugins; one that fails becomes a `Problem`, not an exception."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from kdspec.api import hooks

GROUP = "kdspec"
"""The entry-point group in which packages announce their plugin module."""

BUILTINS = (
    "kdspec.builtins.losses.logit_losses",
    "kdspec.builtins.losses.ranking_losses",
    "kdspec.builtins.losses.feature_losses",
    "kdspec.builtins.losses.embedding_losses",
    "kdspec.builtins.losses.matryoshka",
    "kdspec.builtins.losses.relation_losses",
    "kdspec.builtins.matching.projections",
    "kdspec.builtins.training.schedules",
    "kdspec.builtins.losses.temperatures",
    "kdspec.builtins.matching.layer_maps",
    "kdspec.builtins.matching.presets",
    "kdspec.builtins.matching.compat_presets",
    "kdspec.builtins.matching.adaptors",
    "kdspec.builtins.models.recorded",
    "kdspec.builtins.models.transformers",
    "kdspec.builtins.models.text_models",
    "kdspec.builtins.models.static_embeddings",
    "kdspec.builtins.models.llm_reader",
    "kdspec.builtins.datasets.files",
    "kdspec.builtins.datasets.colbert",
    "kdspec.builtins.datasets.conll",
    "kdspec.builtins.datasets.squad",
    "kdspec.builtins.tasks.sequence_classification",
    "kdspec.builtins.tasks.token_classification",
    "kdspec.builtins.tasks.multi_label",
    "kdspec.builtins.tasks.regression",
    "kdspec.builtins.tasks.masked_lm",
    "kdspec.builtins.tasks.augmentations",
    "kdspec.builtins.tasks.question_answering",
    "kdspec.builtins.tasks.ranking",
    "kdspec.builtins.tasks.tensors",
    "kdspec.builtins.tasks.embedding",
    "kdspec.builtins.training.optimizers",
    "kdspec.builtins.strategies.one_teacher",
    "kdspec.builtins.strategies.multi_teacher",
    "kdspec.builtins.strategies.multi_task",
    "kdspec.builtins.observers.tensorboard",
    "kdspec.builtins.checks.no_effect",
    "kdspec.builtins.checks.metric",
    "kdspec.builtins.checks.calibration",
    "kdspec.builtins.checks.unused",
    "kdspec.builtins.checks.order_of_stages",
    "kdspec.builtins.checks.recorded_answers",
    "kdspec.builtins.checks.score_settings",
    "kdspec.builtins.checks.teacher_scores",
    "kdspec.builtins.checks.teacher_classes",
    "kdspec.builtins.checks.scorers",
    "kdspec.builtins.checks.tokenizers",
    "kdspec.builtins.checks.prompts",
    "kdspec.builtins.checks.prompted_teachers",
    "kdspec.builtins.checks.cached_logits",
    "kdspec.builtins.checks.whole_steps",
    "kdspec.builtins.checks.ranking.in_batch_negatives",
    "kdspec.builtins.checks.ranking.text_search",
    "kdspec.builtins.checks.label_columns",
)


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin and where it comes from."""

    distribution: str
    """The package that provides it: `kdspec` for built-ins, the file's stem for `--plugin FILE`."""
    version: str
    name: str
    """The entry point's name, or the module's."""
    origin: str
    """The module or file."""
    module: Any


@dataclass(frozen=True)
class Problem:
    """A plugin that failed to load, and why."""

    distribution: str
    version: str
    name: str
    origin: str
    reason: str
    cause: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Answer:
    """The result of one plugin's hook, or the exception that it raised."""

    plugin: Plugin
    result: Any = None
    error: Exception | SystemExit | None = None


class Plugins:
    """The plugins of one process, loaded once and passed as an argument; there is no global set."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hooks.PROJECT)
        self.manager.add_hookspecs(hooks)
        self.problems: list[Problem] = []
        self._plugins: dict[str, Plugin] = {}

    @property
    def loaded(self) -> tuple[Plugin, ...]:
        """The plugins in the order in which they were loaded, built-ins first."""
        return tuple(self._plugins.values())

    def having(self, hook: str) -> tuple[Plugin, ...]:
        """The plugins that implement a hook."""
        return tuple(self._plugins[each.plugin_name] for each in getattr(self.manager.hook, hook).get_hookimpls())

    def add(self, plugin: Plugin) -> None:
        """Register a module or object with hook implementations; errors become problems."""
        stated = getattr(plugin.module, "KDSPEC_API", hooks.API_VERSION)
        if stated != hooks.API_VERSION:
            reason = f"made for plugin API {stated}; this kdspec has API {hooks.API_VERSION}"
            self.problems.append(_problem(plugin, reason))
            return
        key = _key(plugin)
        if key in self._plugins:
            return
        try:
            self.manager.register(plugin.module, name=key)
        except (pluggy.PluginValidationError, ValueError) as error:
            # pluggy keeps the name of a plugin that it has refused.
            if self.manager.has_plugin(key):
                self.manager.unregister(name=key)
            self.problems.append(_problem(plugin, str(error)))
            return
        unknown = [name for name in dir(plugin.module) if _is_unknown_hook(plugin.module, name)]
        if unknown:
            self.manager.unregister(name=key)
            self.problems.append(_problem(plugin, f"unknown hook `{unknown[0]}`"))
            return
        self._plugins[key] = plugin

    def call(self, hook: str, *, without: Collection[Plugin] = (), **arguments: Any) -> Iterator[Answer]:
        """Call a hook of each plugin separately: results are attributed, and a failing plugin does not stop the others.

        Plugins in `without` are skipped.
        """
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            plugin = self._plugins[implementation.plugin_name]
            if any(plugin is other for other in without):
                continue
            wanted = {name: arguments[name] for name in implementation.argnames}
            try:
                result = implementation.function(**wanted)
                # A generator runs the plugin's code while it is iterated, so it is exhausted within the `try`.
                yield Answer(plugin, list(result) if isinstance(result, Iterable) else result)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything; the run continues
                yield Answer(plugin, error=error)


def _key(plugin: Plugin) -> str:
    return f"{plugin.distribution}:{plugin.origin}"


def load(extra: Sequence[Any] = (), *, installed: bool = True) -> Plugins:
    """Load built-ins, installed packages, and `extra`: modules, objects with hooks, or paths of Python files."""
    plugins = Plugins()
    own = importlib.metadata.version("kdspec")
    for name in BUILTINS:
        plugins.add(Plugin("kdspec", own, name.rpartition(".")[2], name, importlib.import_module(name)))
    if installed:
        for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: (p.value, p.name)):
            _load_entry_point(plugins, point)
    for item in extra:
        _load_extra(plugins, item)
    return plugins


def _load_entry_point(plugins: Plugins, point: importlib.metadata.EntryPoint) -> None:
    distribution = point.dist.name if point.dist else "unknown"
    version = point.dist.version if point.dist else "?"
    try:
        module = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        plugins.problems.append(Problem(distribution, version, point.name, point.value, _reason(error), error))
        return
    plugins.add(Plugin(distribution, version, point.name, point.value, module))


def _load_extra(plugins: Plugins, item: Any) -> None:
    if not isinstance(item, (str, Path)):
        name = getattr(item, "__name__", type(item).__name__)
        plugins.add(Plugin(name.partition(".")[0].lstrip("_") or "extra", "", name, name, item))
        return
    path = Path(item)
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "there is no such file"
        plugins.problems.append(Problem(path.stem, "", path.stem, str(path), reason))
        return
    try:
        module = _import_file(path)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        plugins.problems.append(Problem(path.stem, "", path.stem, str(path), _reason(error), error))
        return
    plugins.add(Plugin(path.stem, "", path.stem, str(path), module))


def _import_file(path: Path) -> ModuleType:
    # The name is unique to the file, so files of the same name do not replace each other. A module must be in
    # sys.modules while it runs: dataclasses and pydantic resolve its annotations there.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"_kdspec_plugin_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_unknown_hook(module: Any, name: str) -> bool:
    marked = getattr(getattr(module, name, None), f"{hooks.PROJECT}_impl", None) is not None
    return marked and not hasattr(hooks, name)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _problem(plugin: Plugin, reason: str) -> Problem:
    return Problem(plugin.distribution, plugin.version, plugin.name, plugin.origin, reason)
