"""Fits the confidence of a trained student to the validation rows, and multiplies what it finds into its last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.step import Features
from kdspec.api.working.task import BuiltTask
from kdspec.diagnostics.finding import Finding, FindingError, SpecPath
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.evaluation.best_model import evaluated_features
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.forward.last_layer import NO_BIAS, LastLayer, Scaling, last_layer
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import Backend
from kdspec.events import Note
from kdspec.objectives.hard_labels import labels
from kdspec.objectives.soft_labels import outputs
from kdspec.ops.calibration import fitted_scaling

_IGNORE = -100
_TRIED = 4
"""Rows with which the last layer is found."""


def scaling_of(values: Mapping[str, Any]) -> Scaling:
    """What recorded values do to logits."""
    if "temperature" in values:
        return Scaling(torch.tensor(1 / values["temperature"], dtype=torch.float64))
    scale, bias = (torch.tensor(values[name], dtype=torch.float64) for name in ("scale", "bias"))
    return Scaling(scale, bias)


@dataclass
class Calibrator:
    """Calibrates the student of one stage, for each of its tasks with classes. All processes call it."""

    plan: Plan
    stage: StagePlan
    models: Models
    tasks: Mapping[str, BuiltTask]
    backend: Backend
    loaders: dict[str, Loader] = field(default_factory=dict)

    def check(self) -> None:
        """Check before training that the rows and the student can be calibrated.

        Raises:
            FindingError: KD321 if no validation row has a label, a class has none, or the last layer is not known.
        """
        for name in self._names():
            if not self.tasks[name].labelled("validation"):
                raise self._refused(f"no validation row of task `{name}` has a label, so nothing can be fitted to them")
            if not self.backend.divided:  # a sharded layer is whole in its forward pass only
                self._layer(name)

    def __call__(self, tell: Callable[[Note], None]) -> dict[str, Any]:
        """Fit, fold and measure: by task what `StageFinished.calibration` has; without tasks whose rows determine nothing."""
        found = {}
        self.models.prepared(self.stage.student, self.backend.device, trains=False, eager=False)
        for name in self._names():
            forward, loader = self._forward(name), self._loader(name)
            collected = Collected(self.tasks[name].evaluator("validation"), several=self._several(name))
            before = self._measured(name, forward, loader, collected)
            values = self.backend.process_group.share(self._fitted(name, before.states) if self._is_main else None)
            if isinstance(values, str):
                text = f"stage `{self.stage.name}` does not calibrate task `{name}`: {values}"
                tell(Note("warning", text))
                continue
            self._layer(name).fold(scaling_of(values))
            after = self._measured(name, forward, loader, self.tasks[name].evaluator("validation"))
            found[name] = {
                "method": self.method, "values": values, "rows": self.tasks[name].labelled("validation"),
                "before": before.metrics, "after": after.metrics,
            }  # fmt: skip
        return found

    @property
    def method(self) -> Literal["temperature", "vector"]:
        """That of the spec."""
        method = self.stage.training.calibrate
        assert method is not None, "asked for in the spec"
        return method

    @property
    def _is_main(self) -> bool:
        return self.backend.process_group.is_main

    def _names(self) -> Iterator[str]:
        return (name for name in self.stage.tasks if self.plan.spec.tasks[name].has_classes())

    def _several(self, name: str) -> bool:
        return self.plan.spec.tasks[name].logits == "labels"

    def _loader(self, name: str) -> Loader:
        if name not in self.loaders:
            student = self.stage.student
            readers = {student: self.models.reader(student)}
            self.loaders[name] = Loader(self.tasks[name], "validation", readers, device=self.backend.device)
        return self.loaders[name]

    def _forward(self, name: str) -> ModelRunner:
        student = self.stage.student
        features = evaluated_features(self.plan, student, name, self.tasks[name].evaluator("validation"))
        return ModelRunner(
            ModelFindings(self.plan.spec, student, name), self.models.view(student, name), features,
            chooses=self.models.reader(student).tokenizer is not None,
        )  # fmt: skip

    def _measured(self, name: str, forward: ModelRunner, loader: Loader, evaluator: Evaluator) -> Any:
        rows = self.stage.training.batch_size
        return evaluate(
            forward, self.tasks[name], loader, rows, evaluator=evaluator, process_group=self.backend.process_group
        )

    def _layer(self, name: str) -> LastLayer:
        forward, loader = self._forward(name), self._loader(name)
        batch = loader.on_device(self.stage.student, range(min(loader.rows, _TRIED)))

        def logits() -> Tensor:
            return outputs(forward(batch))[0].dense().detach()

        with isolated_random(), frozen(forward.module):
            found = last_layer(forward.module, logits, with_bias=self.method == "vector")
        if isinstance(found, str):
            message = f"the calibration of `{self.stage.student}` cannot be a part of its weights: {found}"
            help_ = "write `calibrate: temperature`" if found == NO_BIAS else "leave out `calibrate`"
            raise self._refused(message, help_)
        return found

    def _fitted(self, name: str, states: Sequence[State]) -> dict[str, Any] | str:
        """What was fitted, or the reason why there is nothing."""
        logits, truth = (torch.cat([state[key] for state in states]) for key in ("logits", "labels"))
        known = ~truth.isnan() if self._several(name) else None
        if self.method == "temperature":
            some = (logits, truth) if known is None else (logits[known], truth[known])
            found = fitted_scaling.temperature(*some)
            return _NOTHING if found is None else {"temperature": found}
        if missing := fitted_scaling.unseen(truth, logits.shape[-1], known):
            names = self.tasks[name].head.labels
            shown = ", ".join(f"`{names[number]}`" for number in missing[:5])
            return f"`vector` needs validation rows with and without each class, which is not so of {shown}"
        fitted = fitted_scaling.vector(logits, truth, known)
        if fitted is None:
            return _NOTHING
        scale, bias = fitted
        return {"scale": scale.tolist(), "bias": bias.tolist()}

    def _refused(self, message: str, help_: str = "") -> FindingError:
        return FindingError(Finding("KD321", message, place(self.stage.name), help=help_ or None))


_NOTHING = "the validation rows do not determine it, as where all answers are right"


def place(stage: str) -> SpecPath:
    """The setting in the spec."""
    return ("stages", stage, "training", "calibrate")


class Collected(Evaluator):
    """A task's evaluator that also keeps the logits and the label of each row, or word, that has one.

    Args:
        evaluator: that of the task.
        several: whether a row has several labels, each with its own logit.
    """

    def __init__(self, evaluator: Evaluator, *, several: bool) -> None:
        self._evaluator, self._several = evaluator, several
        self.reads, self.optional, self.of_form = evaluator.reads, evaluator.optional, evaluator.of_form
        self.gives_loss = evaluator.gives_loss

    def add(self, features: Features, batch: Batch) -> State:
        """The evaluator's state, and `logits` and `labels` of what has one."""
        state = {f"own.{name}": tensor for name, tensor in self._evaluator.add(features, batch).items()}
        logits, truth = outputs(features)[0].dense().float(), labels(features, batch)[0]
        if self._several:
            kept = (~truth.isnan()).any(-1)
        else:
            masks = features.heads("logits_mask")
            kept = truth != _IGNORE
            kept = kept & (masks[0] != 0) if masks and masks[0].shape == truth.shape else kept
        return {**state, "logits": logits[kept], "labels": truth[kept]}

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The evaluator's metrics."""
        owns = ({name[4:]: tensor for name, tensor in state.items() if name.startswith("own.")} for state in states)
        return self._evaluator.merge([state for state in owns if state])


class Uncalibrated(Evaluator):
    """A task's evaluator of the logits as they were before a calibration; without the loss, which is that after it.

    Args:
        evaluator: that of the task.
        scaling: the calibration.
    """

    gives_loss = True

    def __init__(self, evaluator: Evaluator, scaling: Scaling) -> None:
        self._evaluator, self._scaling = evaluator, scaling
        self.reads, self.optional, self.of_form = evaluator.reads, evaluator.optional, evaluator.of_form

    def add(self, features: Features, batch: Batch) -> State:
        """The evaluator's state of the former logits."""
        plain = tuple(self._scaling.undone(each.dense().float()) for each in outputs(features))
        return self._evaluator.add(Features({**features, "logits": plain}), batch)

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The evaluator's metrics."""
        return self._evaluator.merge(states)

    def reliability(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, Any]:
        """That of the evaluator."""
        return self._evaluator.reliability(states, reference)
