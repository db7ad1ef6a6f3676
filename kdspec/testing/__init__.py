"""Tools for the tests of plugin authors: a registry, a suite that a loss must pass, and tiny models."""

from __future__ import annotations

from typing import Any

from kdspec.registry import Registry, load_registry
from kdspec.testing.losses import check_loss
from kdspec.testing.models import tiny

__all__ = ["check_loss", "registry", "tiny"]


def registry(*extra: Any) -> Registry:
    """The built-ins and `extra`, and nothing that happens to be installed: plugin modules, component classes or files.

    Raises:
        AssertionError: something of `extra` could not be used.
    """
    made = load_registry(*extra, installed=False)
    assert not made.problems, "; ".join(f"{problem.name}: {problem.reason}" for problem in made.problems)
    return made
