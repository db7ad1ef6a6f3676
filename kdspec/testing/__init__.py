"""Tools for plugin authors' tests: a registry, checking and running specs, a test suite for losses, and tiny models."""

from __future__ import annotations

from kdspec.testing.loss_suite import check_loss
from kdspec.testing.specs import check, plan, registry, run
from kdspec.testing.tiny_models import tiny

__all__ = ["check", "check_loss", "plan", "registry", "run", "tiny"]
