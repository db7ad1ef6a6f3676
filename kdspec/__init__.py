"""kdspec: knowledge distillation from a declarative spec.

`run`, `plan`, `check` and `Run` are the commands for programs and notebooks; the rest is what a plugin needs. Each name is
imported when it is first used: this module itself imports neither torch nor pydantic.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from kdspec.api.kinds.switched_off import switched_off
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
    from kdspec.api.working.logits import DenseLogits, HeadLogits, HeadPost, Logits, OutputHead, TopKLogits
    from kdspec.api.working.objective import Objective
    from kdspec.api.working.pieces import Pieces, PutsTogether
    from kdspec.api.working.row_answers import RowAnswers
    from kdspec.api.working.standalone import Standalone
    from kdspec.api.working.step import Features, Step, Term, View
    from kdspec.api.working.task import ANSWERS, BuiltTask, Head, Reader, Row, WrappedTask
    from kdspec.diagnostics.diagnostic import Diagnostic, closest, excerpt, listed
    from kdspec.diagnostics.fault import Fault
    from kdspec.diagnostics.finding import Finding, Mark, SpecPath
    from kdspec.launch.check_result import CheckResult
    from kdspec.launch.errors import RunError, SpecError
    from kdspec.launch.in_python import check, plan, run
    from kdspec.launch.planned_run import PlannedRun
    from kdspec.launch.run import Run
    from kdspec.objectives.distillation import DistillationObjective
    from kdspec.objectives.soft_labels import Soft
    from kdspec.ops.mean import Mean
    from kdspec.registry.registry import Registry, load_registry

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
    "listed",
    "load_registry",
    "local_folder",
    "matches_of",
    "plan",
    "run",
    "switched_off",
]


_MODULES = MappingProxyType(
    {
        "ANSWERS": "kdspec.api.working.task",
        "API_VERSION": "kdspec.api.hooks",
        "Adaptor": "kdspec.api.kinds.kinds",
        "AdaptorContext": "kdspec.api.kinds.context",
        "Answer": "kdspec.api.kinds.recorded",
        "Augmentation": "kdspec.api.kinds.kinds",
        "Batch": "kdspec.api.working.batch",
        "BuildContext": "kdspec.api.kinds.context",
        "BuiltTask": "kdspec.api.working.task",
        "CheckResult": "kdspec.launch.check_result",
        "ClassesOnly": "kdspec.api.plan.needs",
        "Component": "kdspec.api.component",
        "Dataset": "kdspec.api.kinds.kinds",
        "DatasetContext": "kdspec.api.kinds.context",
        "DeclaredTerm": "kdspec.api.plan.needs",
        "DenseLogits": "kdspec.api.working.logits",
        "Diagnostic": "kdspec.diagnostics.diagnostic",
        "DistillationObjective": "kdspec.objectives.distillation",
        "Distiller": "kdspec.api.kinds.distiller",
        "Divergence": "kdspec.api.kinds.losses",
        "Evaluator": "kdspec.api.working.evaluator",
        "ExampleContext": "kdspec.api.kinds.context",
        "Fault": "kdspec.diagnostics.fault",
        "FeatureLoss": "kdspec.api.kinds.losses",
        "Features": "kdspec.api.working.step",
        "FieldPath": "kdspec.api.paths.field_path",
        "FieldPathError": "kdspec.api.paths.field_path",
        "FinalResults": "kdspec.api.tracker",
        "Finding": "kdspec.diagnostics.finding",
        "Head": "kdspec.api.working.task",
        "HeadLogits": "kdspec.api.working.logits",
        "HeadPost": "kdspec.api.working.logits",
        "Input": "kdspec.api.kinds.context",
        "InputLimits": "kdspec.api.kinds.model",
        "LOGIT_KINDS": "kdspec.api.kinds.losses",
        "LayerMap": "kdspec.api.kinds.kinds",
        "LogitKind": "kdspec.api.kinds.losses",
        "LogitLoss": "kdspec.api.kinds.losses",
        "LogitUse": "kdspec.api.plan.needs",
        "Logits": "kdspec.api.working.logits",
        "LrSchedule": "kdspec.api.kinds.kinds",
        "LrScheduleContext": "kdspec.api.kinds.context",
        "Mark": "kdspec.diagnostics.finding",
        "Match": "kdspec.api.spec.match",
        "MatchPreset": "kdspec.api.kinds.kinds",
        "Mean": "kdspec.ops.mean",
        "Metric": "kdspec.api.working.evaluator",
        "Mixture": "kdspec.api.plan.mixture",
        "Model": "kdspec.api.kinds.model",
        "ModelContext": "kdspec.api.kinds.model",
        "ModelFacts": "kdspec.api.kinds.model",
        "Needs": "kdspec.api.plan.needs",
        "Objective": "kdspec.api.working.objective",
        "ObjectiveContext": "kdspec.api.kinds.distiller",
        "Optimizer": "kdspec.api.kinds.kinds",
        "OptimizerContext": "kdspec.api.kinds.context",
        "OutputHead": "kdspec.api.working.logits",
        "Pair": "kdspec.api.spec.match",
        "Pieces": "kdspec.api.working.pieces",
        "Plan": "kdspec.api.plan.plan",
        "PlannedMatch": "kdspec.api.spec.match",
        "PlannedRun": "kdspec.launch.planned_run",
        "Projection": "kdspec.api.kinds.losses",
        "ProjectionContext": "kdspec.api.kinds.context",
        "PutsTogether": "kdspec.api.working.pieces",
        "ReadFiles": "kdspec.api.kinds.model",
        "Reader": "kdspec.api.working.task",
        "RecordedRows": "kdspec.api.kinds.recorded",
        "Reduction": "kdspec.api.kinds.losses",
        "Registry": "kdspec.registry.registry",
        "Report": "kdspec.api.report",
        "Row": "kdspec.api.working.task",
        "RowAnswers": "kdspec.api.working.row_answers",
        "Run": "kdspec.launch.run",
        "RunError": "kdspec.launch.errors",
        "RunOutcome": "kdspec.api.tracker",
        "Sampling": "kdspec.api.spec.task_sampling",
        "Schedule": "kdspec.api.kinds.kinds",
        "Scope": "kdspec.api.kinds.losses",
        "Section": "kdspec.api.report",
        "Soft": "kdspec.objectives.soft_labels",
        "Spec": "kdspec.api.spec.spec",
        "SpecEmbedderFolder": "kdspec.api.spec.file_fields",
        "SpecError": "kdspec.launch.errors",
        "SpecFile": "kdspec.api.spec.file_fields",
        "SpecFolderOrHub": "kdspec.api.spec.file_fields",
        "SpecHub": "kdspec.api.spec.file_fields",
        "SpecPath": "kdspec.diagnostics.finding",
        "SpecSource": "kdspec.api.spec.spec_source",
        "SpecTokenizer": "kdspec.api.spec.file_fields",
        "StagePlan": "kdspec.api.plan.plan",
        "Standalone": "kdspec.api.working.standalone",
        "State": "kdspec.api.working.evaluator",
        "Step": "kdspec.api.working.step",
        "Strict": "kdspec.api.component",
        "Task": "kdspec.api.kinds.kinds",
        "TaskContext": "kdspec.api.kinds.context",
        "TaskNeeds": "kdspec.api.plan.needs",
        "TaskPlan": "kdspec.api.plan.plan",
        "Temperature": "kdspec.api.kinds.losses",
        "Term": "kdspec.api.working.step",
        "TopKLogits": "kdspec.api.working.logits",
        "Tracker": "kdspec.api.tracker",
        "TrainedHead": "kdspec.api.kinds.context",
        "Training": "kdspec.api.spec.spec",
        "View": "kdspec.api.working.step",
        "WrappedTask": "kdspec.api.working.task",
        "by_name": "kdspec.api.component",
        "check": "kdspec.launch.in_python",
        "closest": "kdspec.diagnostics.diagnostic",
        "excerpt": "kdspec.diagnostics.diagnostic",
        "has_tokenizer": "kdspec.api.spec.model_folders",
        "hookimpl": "kdspec.api.hooks",
        "invalid_value": "kdspec.api.component",
        "listed": "kdspec.diagnostics.diagnostic",
        "load_registry": "kdspec.registry.registry",
        "local_folder": "kdspec.api.spec.file_fields",
        "matches_of": "kdspec.api.spec.match",
        "plan": "kdspec.launch.in_python",
        "run": "kdspec.launch.in_python",
        "switched_off": "kdspec.api.kinds.switched_off",
    }
)
"""The module of each name; it is imported when the name is first used, so that a command imports what it uses alone."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
