"""The trackers that the user names: packages that log a run to Weights & Biases, MLflow or the like."""

from __future__ import annotations

from collections.abc import Sequence

from kdspec.diagnostics.diagnostic import closest
from kdspec.registry.plugins import Plugins

PACKAGES = ("mlflow", "trackio", "wandb")
"""The trackers of kdspec's own packages, `kdspec-<name>`."""


def refused_trackers(names: Sequence[str], plugins: Plugins) -> str | None:
    """Why one of the names is no tracker; None if all are. A tracker is a plugin, not built in, that observes runs."""
    known = {plugin.name for plugin in plugins.having("kdspec_observe") if plugin.distribution != "kdspec"}
    name = next((each for each in names if each not in known), None)
    if name is None:
        return None
    failed = next((problem for problem in plugins.problems if problem.name == name), None)
    if failed is not None:
        return f"the tracker `{name}` cannot be loaded: {failed.reason}"
    near = closest(name, [*known, *PACKAGES])
    if near in known:
        return f"there is no tracker `{name}`; did you mean `{near}`?"
    if near is not None:
        return f"there is no tracker `{name}`; `pip install kdspec-{near}` brings `{near}`"
    listed = ", ".join(f"`{each}`" for each in sorted(known)) or "none"
    return f"there is no tracker `{name}`; installed are {listed}"
