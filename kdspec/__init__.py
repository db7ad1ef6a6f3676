"""kdspec: knowledge distillation from a declarative spec.

What a plugin needs is exported here. Nothing in this module imports torch; `Mean`, `Soft` and `DistillationObjective`
do when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdspec.answers import Answers
from kdspec.built import BuiltTask, Objective
from kdspec.component import Component, Strict, by_name
from kdspec.context import BuildContext, Head, ModelFacts
from kdspec.diagnostics import Diagnostic, Edit, Label, Span
from kdspec.fault import Fault
from kdspec.fieldpath import FieldPath
from kdspec.hookspecs import API_VERSION, hookimpl
from kdspec.kinds import (
    Adaptor,
    Augmentation,
    Dataset,
    Distiller,
    LayerMap,
    LrSchedule,
    MatchPreset,
    Model,
    Optimizer,
    Schedule,
    Task,
)
from kdspec.losses import FeatureLoss, LogitLoss, Projection, Temperature
from kdspec.match import Match, Pair, PlannedMatch
from kdspec.registry import Registry, load_registry
from kdspec.sampling import Sampling
from kdspec.step import Features, Needs, Step, Term

if TYPE_CHECKING:
    from kdspec.objective import DistillationObjective
    from kdspec.ops.mean import Mean
    from kdspec.soft_labels import Soft

__all__ = [
    "API_VERSION",
    "Adaptor",
    "Answers",
    "Augmentation",
    "BuildContext",
    "BuiltTask",
    "Component",
    "Dataset",
    "Diagnostic",
    "DistillationObjective",
    "Distiller",
    "Edit",
    "Fault",
    "FeatureLoss",
    "Features",
    "FieldPath",
    "Head",
    "Label",
    "LayerMap",
    "LogitLoss",
    "LrSchedule",
    "Match",
    "MatchPreset",
    "Mean",
    "Model",
    "ModelFacts",
    "Needs",
    "Objective",
    "Optimizer",
    "Pair",
    "PlannedMatch",
    "Projection",
    "Registry",
    "Sampling",
    "Schedule",
    "Soft",
    "Span",
    "Step",
    "Strict",
    "Task",
    "Temperature",
    "Term",
    "by_name",
    "hookimpl",
    "load_registry",
]


def __getattr__(name: str) -> Any:
    if name == "Mean":
        from kdspec.ops.mean import Mean

        return Mean
    if name == "DistillationObjective":
        from kdspec.objective import DistillationObjective

        return DistillationObjective
    if name == "Soft":
        from kdspec.soft_labels import Soft

        return Soft
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
