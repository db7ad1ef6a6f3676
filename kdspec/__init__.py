"""kdspec: knowledge distillation from a declarative spec.

`run`, `plan`, `check` and `Run` are the commands for programs and notebooks; the rest is what a plugin needs. Nothing in
this module imports torch; the names that need it are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdspec.api.component import Component, Strict, by_name, invalid_value
from kdspec.api.hooks import API_VERSION, hookimpl
from kdspec.api.kinds.context import (
    AdaptorContext,
    BuildContext,
    DatasetContext,
    ExampleContext,
    Input,
    LrScheduleContext,
    OptimizerContext,
    ProjectionContext,
    TaskContext,
    TrainedHead,
)
from kdspec.api.kinds.distiller import Distiller, ObjectiveContext
from kdspec.api.kinds.kinds import (
    Adaptor,
    Augmentation,
    Dataset,
    LayerMap,
    LrSchedule,
    MatchPreset,
    Optimizer,
    Schedule,
    Task,
    switched_off,
)
from kdspec.api.kinds.losses import (
    LOGIT_KINDS,
    Divergence,
    FeatureLoss,
    LogitKind,
    LogitLoss,
    Projection,
    Reduction,
    Scope,
    Temperature,
)
from kdspec.api.kinds.model import InputLimits, Model, ModelContext, ModelFacts, ReadFiles
from kdspec.api.kinds.recorded import Answer, RecordedRows
from kdspec.api.paths.field_path import FieldPath, FieldPathError
from kdspec.api.plan.mixture import Mixture
from kdspec.api.plan.needs import ClassesOnly, DeclaredTerm, LogitUse, Needs, TaskNeeds
from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.report import Report, Section
from kdspec.api.spec.file_fields import (
    SpecEmbedderFolder,
    SpecFile,
    SpecFolderOrHub,
    SpecHub,
    SpecTokenizer,
    local_folder,
)
from kdspec.api.spec.match import Match, Pair, PlannedMatch, matches_of
from kdspec.api.spec.model_folders import has_tokenizer
from kdspec.api.spec.spec import Spec, Training
from kdspec.api.spec.spec_source import SpecSource
from kdspec.api.spec.task_sampling import Sampling
from kdspec.api.tracker import FinalResults, RunOutcome, Tracker
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.pieces import Pieces, PutsTogether
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.step import Features, Step, Term, View
from kdspec.api.working.task import ANSWERS, BuiltTask, Head, Reader, Row, WrappedTask
from kdspec.diagnostics.diagnostic import Diagnostic, closest, excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark, SpecPath
from kdspec.registry.registry import Registry, load_registry

if TYPE_CHECKING:
    from kdspec.api.working.logits import DenseLogits, HeadLogits, HeadPost, Logits, OutputHead, TopKLogits
    from kdspec.api.working.objective import Objective
    from kdspec.launch.check_result import CheckResult
    from kdspec.launch.errors import RunError, SpecError
    from kdspec.launch.in_python import check, plan, run
    from kdspec.launch.planned_run import PlannedRun
    from kdspec.launch.run import Run
    from kdspec.objectives.distillation import DistillationObjective
    from kdspec.objectives.soft_labels import Soft
    from kdspec.ops.mean import Mean

__all__ = [
    "ANSWERS",
    "API_VERSION",
    "LOGIT_KINDS",
    "Adaptor",
    "AdaptorContext",
    "Answer",
    "Augmentation",
    "Batch",
    "BuildContext",
    "BuiltTask",
    "CheckResult",
    "ClassesOnly",
    "Component",
    "Dataset",
    "DatasetContext",
    "DeclaredTerm",
    "DenseLogits",
    "Diagnostic",
    "DistillationObjective",
    "Distiller",
    "Divergence",
    "Evaluator",
    "ExampleContext",
    "Fault",
    "FeatureLoss",
    "Features",
    "FieldPath",
    "FieldPathError",
    "FinalResults",
    "Finding",
    "Head",
    "HeadLogits",
    "HeadPost",
    "Input",
    "InputLimits",
    "LayerMap",
    "LogitKind",
    "LogitLoss",
    "LogitUse",
    "Logits",
    "LrSchedule",
    "LrScheduleContext",
    "Mark",
    "Match",
    "MatchPreset",
    "Mean",
    "Metric",
    "Mixture",
    "Model",
    "ModelContext",
    "ModelFacts",
    "Needs",
    "Objective",
    "ObjectiveContext",
    "Optimizer",
    "OptimizerContext",
    "OutputHead",
    "Pair",
    "Pieces",
    "Plan",
    "PlannedMatch",
    "PlannedRun",
    "Projection",
    "ProjectionContext",
    "PutsTogether",
    "ReadFiles",
    "Reader",
    "RecordedRows",
    "Reduction",
    "Registry",
    "Report",
    "Row",
    "RowAnswers",
    "Run",
    "RunError",
    "RunOutcome",
    "Sampling",
    "Schedule",
    "Scope",
    "Section",
    "Soft",
    "Spec",
    "SpecEmbedderFolder",
    "SpecError",
    "SpecFile",
    "SpecFolderOrHub",
    "SpecHub",
    "SpecPath",
    "SpecSource",
    "SpecTokenizer",
    "StagePlan",
    "Standalone",
    "State",
    "Step",
    "Strict",
    "Task",
    "TaskContext",
    "TaskNeeds",
    "TaskPlan",
    "Temperature",
    "Term",
    "TopKLogits",
    "Tracker",
    "TrainedHead",
    "Training",
    "View",
    "WrappedTask",
    "by_name",
    "check",
    "closest",
    "excerpt",
    "has_tokenizer",
    "hookimpl",
    "invalid_value",
    "load_registry",
    "local_folder",
    "matches_of",
    "plan",
    "run",
    "switched_off",
]


_LATE = MappingProxyType(
    {
        "CheckResult": "kdspec.launch.check_result",
        "DenseLogits": "kdspec.api.working.logits",
        "DistillationObjective": "kdspec.objectives.distillation",
        "HeadLogits": "kdspec.api.working.logits",
        "HeadPost": "kdspec.api.working.logits",
        "Logits": "kdspec.api.working.logits",
        "Mean": "kdspec.ops.mean",
        "Objective": "kdspec.api.working.objective",
        "OutputHead": "kdspec.api.working.logits",
        "PlannedRun": "kdspec.launch.planned_run",
        "Run": "kdspec.launch.run",
        "RunError": "kdspec.launch.errors",
        "Soft": "kdspec.objectives.soft_labels",
        "SpecError": "kdspec.launch.errors",
        "TopKLogits": "kdspec.api.working.logits",
        "check": "kdspec.launch.in_python",
        "plan": "kdspec.launch.in_python",
        "run": "kdspec.launch.in_python",
    }
)
"""The modules of the names that need torch or the engine; each is imported when its name is first used."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
