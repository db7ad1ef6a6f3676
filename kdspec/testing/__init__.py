"""Tools for plugin authors' tests: a registry, checking and running specs, a test suite for each kind, and tiny models and runs."""

from __future__ import annotations

from kdspec.testing.dataset_suite import check_dataset
from kdspec.testing.loss_suite import check_loss
from kdspec.testing.model_suite import check_model
from kdspec.testing.small_run import InfiniteLoss, SmallRun, StopAfter, logged_curves
from kdspec.testing.specs import check, plan, registry, run
from kdspec.testing.strategy_suite import check_strategy
from kdspec.testing.task_suite import check_task
from kdspec.testing.tiny_models import tiny

__all__ = [
    "InfiniteLoss",
    "SmallRun",
    "StopAfter",
    "check",
    "check_dataset",
    "check_loss",
    "check_model",
    "check_strategy",
    "check_task",
    "logged_curves",
    "plan",
    "registry",
    "run",
    "tiny",
]
