"""One stage, from its models to a trained student: set up, resumed, trained, judged, saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdspec.diagnostics import Diagnostic, DiagnosticError, Label
from kdspec.engine import optimizer_state
from kdspec.engine.assembly import Assembly
from kdspec.engine.backend import Backend
from kdspec.engine.blame import blaming, placing
from kdspec.engine.calendar import Calendar, total_steps
from kdspec.engine.checkpoint import Checkpoint, CheckpointStore
from kdspec.engine.evaluation import evaluate
from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward
from kdspec.engine.models import Models
from kdspec.engine.optimization import Optimization
from kdspec.engine.order import DataOrder, fold
from kdspec.engine.probe import look, settle
from kdspec.engine.signals import StopSignal
from kdspec.engine.training import Loop
from kdspec.events import CheckpointSaved, Evaluated, Event, Note, StageFinished, StageStarted
from kdspec.kinds import BuiltTask
from kdspec.plan import Feature, Plan, PlannedStage
from kdspec.registry import Registry


class Interrupted(Exception):  # noqa: N818 - what happened, not an error
    """A signal asked the run to stop; its state is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


@dataclass
class Progress:
    """What a stage has reached, beside the weights; saved with every checkpoint."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    best_metrics: dict[str, float] | None = None
    without_better: int = 0
    """Evaluations in a row that brought nothing better."""


class StageRun:
    """A stage at work. Everything it needs is passed in; `run` does all of it."""

    def __init__(
        self,
        plan: Plan,
        stage: PlannedStage,
        *,
        registry: Registry,
        models: Models,
        task: BuiltTask,
        folder: Path,
        backend: Backend,
        emit: Callable[[Event], None],
        stop: StopSignal,
    ) -> None:
        self.plan, self.stage, self.registry, self.models, self.task = plan, stage, registry, models, task
        self.folder, self.backend, self.emit, self.stop = folder, backend, emit, stop
        self.spec, self.training = plan.spec, stage.training
        self.path = ("stages", stage.name, "distiller", stage.stage.distiller.name)
        self.seed = fold(plan.spec.seed, "stage", stage.name)
        self.progress = Progress()
        self.store = CheckpointStore(folder / "checkpoints" / stage.name, self.training.checkpoint.keep)

    def run(self) -> StageFinished:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises:
            Interrupted: a signal came; the state is saved.
            DiagnosticError: KD5xx.
        """
        began = time.perf_counter()
        with placing(self.spec, self.path, f"stage `{self.stage.name}`"):
            loop = self._loop()
            self._resume(loop)
            epochs = loop.total_steps / loop.order.steps_per_epoch
            name, rows = self.stage.name, loop.feed.rows
            self.emit(StageStarted(name, loop.total_steps, epochs, rows, self.progress.step))
            self._train(loop)
            return self._finish(loop, time.perf_counter() - began)

    def _loop(self) -> Loop:
        needs, training = self.stage.needs, self.training
        with blaming(self.spec, ("tasks", self.stage.tasks[0], self._task_name), f"task `{self.stage.tasks[0]}`"):
            feed = self._feed("train", unlabelled=needs.unlabelled)
        order = DataOrder(
            feed.rows, training.batch_size, training.accumulate, self.seed,
            shuffle=training.shuffle, world=self.backend.world,
        )  # fmt: skip
        steps = total_steps(order.steps_per_epoch, training.epochs, training.steps)
        assembly = Assembly(self.plan, self.stage, self.models, self.task, self.backend.device)
        forwards = {name: assembly.forward(name) for name in self.stage.models}
        matches = settle(self.spec, self.registry, self.stage, look(forwards, feed))
        bundle = assembly.bundle(forwards[needs.student].module, matches)
        self.backend.wrap(bundle)
        optimization = Optimization(bundle, training, steps, self.spec.label(self.path))
        return Loop(
            stage=self.stage, task=self.stage.tasks[0], bundle=bundle, student=forwards[needs.student],
            teachers={name: forwards[name] for name in needs.teachers}, feed=feed, order=order,
            optimization=optimization, backend=self.backend, seed=self.seed, total_steps=steps,
            labels=self.task.label_keys, place=self._place_of(matches), guard=partial(blaming, self.spec, self.path, "the objective"),
        )  # fmt: skip

    @property
    def _task_name(self) -> str:
        return self.spec.tasks[self.stage.tasks[0]].name

    def _feed(self, split: str, *, unlabelled: bool = False) -> Feed:
        tokenizers = {name: self.models.tokenizer(name) for name in self.stage.models}
        return Feed(self.task, split, tokenizers, unlabelled=unlabelled, device=self.backend.device)

    def _forward(self, name: str, features: Mapping[str, Feature]) -> Forward:
        module = self.models.module(name).to(self.backend.device)
        return Forward(
            name, module, features, labels=self.task.label_keys, chooses=self.models.tokenizer_id(name) is not None,
            spec=self.spec, task=self.stage.tasks[0],
        )  # fmt: skip

    def _place_of(self, matches: tuple[Any, ...]) -> Callable[[str], Label]:
        paths = {match.term: match.path for match in matches}

        def place(term: str) -> Label:
            kind = term.partition(".")[0]
            below = (kind,) if kind in ("soft_labels", "hard_labels") else ()
            return self.spec.label(paths.get(term, (*self.path, *below)))

        return place

    def _train(self, loop: Loop) -> None:
        if self.progress.step >= loop.total_steps or self._patience_is_over():
            return
        evaluating = self.training.evaluate if self.task.rows("validation") else None
        spe = loop.order.steps_per_epoch
        judged = evaluating and Calendar(loop.total_steps, spe, evaluating.every_steps, evaluating.every_epochs)
        kept = self.training.checkpoint
        saved = Calendar(loop.total_steps, spe, kept.every_steps, kept.every_epochs)
        if self.training.evaluate is not None and evaluating is None and not self.progress.step:
            self.emit(Note("info", f"stage `{self.stage.name}` has no validation rows: its last student is kept"))
        for done in loop.run(self.progress.step):
            self.progress.step = done.step
            if done.step % self.training.log_every == 0 or done.step in (1, loop.total_steps):
                self.emit(done)
            better = self._judge(loop) if judged and judged.due(done.step) else False
            stopped = self.backend.agree(self.stop.requested is not None)
            over = self._patience_is_over()
            if better or stopped or over or saved.due(done.step):
                self._save(loop)
            if over:
                self.emit(
                    Note("info", f"stopped early at step {done.step}: nothing better since {self.progress.best_step}")
                )
                return
            if stopped and done.step < loop.total_steps:
                raise Interrupted(self.stop.requested or 0)

    def _patience_is_over(self) -> bool:
        stopping = self.training.early_stopping
        return stopping is not None and self.progress.without_better >= stopping.patience

    def _judge(self, loop: Loop) -> bool:
        """Evaluate the student; whether it is the best so far."""
        metrics = self._evaluate(loop)
        name, higher = self._metric(metrics)
        progress, value = self.progress, metrics[name]
        best = progress.best_value
        better = best is None or (value > best if higher else value < best)
        if better:
            progress.best_step, progress.best_value, progress.best_metrics = progress.step, value, metrics
        progress.without_better = 0 if better else progress.without_better + 1
        student = self.stage.needs.student
        self.emit(Evaluated(self.stage.name, progress.step, "validation", student, metrics, better))
        return better

    def _evaluate(self, loop: Loop) -> dict[str, float]:
        student = self.stage.needs.student
        forward = self._forward(student, judging(self.plan, student, self.stage.tasks[0]))
        metrics = evaluate(forward, self.task, self._validation(), self.training.batch_size).metrics
        loop.bundle.train()
        return metrics

    def _validation(self) -> Feed:
        if not hasattr(self, "_validation_feed"):
            self._validation_feed = self._feed("validation")
        return self._validation_feed

    def _metric(self, metrics: Mapping[str, float]) -> tuple[str, bool]:
        written = self.training.evaluate.metric if self.training.evaluate else None
        name = written or self.task.metric or "loss"
        if name not in metrics:
            path = ("stages", self.stage.name, "training", "evaluate", "metric")
            known = ", ".join(f"`{key}`" for key in metrics) or "none"
            message = f"the task has no metric `{name}`"
            raise DiagnosticError(Diagnostic("KD502", message, self.spec.label(path), notes=(f"there are: {known}",)))
        return name, name != "loss" and (self.task.higher_is_better or name != self.task.metric)

    def _save(self, loop: Loop) -> None:
        if not self.backend.is_main:
            return
        optimizer, names = loop.optimization.optimizer, _names(loop.bundle)
        tensors, scalars = optimizer_state.flatten(optimizer, names)
        meta = {"progress": vars(self.progress), "optimizer": scalars, "scaler": self.backend.scaler_state()}
        weights = self.backend.state(loop.bundle)
        best = () if self.progress.best_step is None else (self.progress.best_step,)
        path = self.store.save(self.progress.step, {"weights": weights, "optimizer": tensors}, meta, protect=best)
        self.emit(CheckpointSaved(self.stage.name, self.progress.step, str(path.relative_to(self.folder))))

    def _resume(self, loop: Loop) -> None:
        found = self.store.latest(lambda text: self.emit(Note("warning", text)))
        if found is None:
            if self.store.damaged():
                message = f"every checkpoint of stage `{self.stage.name}` is damaged"
                help_ = "begin anew with `--restart`; nothing has been deleted"
                raise DiagnosticError(Diagnostic("KD504", message, help=help_))
            return
        self.backend.load(loop.bundle, found.tensors["weights"])
        tensors: Mapping[str, Tensor] = found.tensors.get("optimizer", {})
        optimizer_state.restore(loop.optimization.optimizer, _names(loop.bundle), tensors, found.meta["optimizer"])
        self.backend.load_scaler_state(found.meta["scaler"])
        self.progress = Progress(**found.meta["progress"])

    def _finish(self, loop: Loop, seconds: float) -> StageFinished:
        """Keep the best student, or the last where none was judged."""
        progress, student = self.progress, self.stage.needs.student
        if progress.best_step is not None and progress.best_step != progress.step:
            best: Checkpoint = self.store.load(progress.best_step)
            self.backend.load(loop.bundle, best.tensors["weights"])
        folder = self.folder / "models" / student
        if self.backend.is_main:
            self.models.save(student, folder)
        self.models.trained[student] = folder
        metrics = progress.best_metrics or {}
        at = str(folder.relative_to(self.folder))
        return StageFinished(self.stage.name, progress.step, seconds, progress.best_step, metrics, at)


def judging(plan: Plan, model: str, task: str) -> dict[str, Feature]:
    """The features that evaluation reads: logits and labels, and the model's own loss where it is all there is."""
    from kdspec.plan import locate

    found = locate(plan.spec, model, task, ("logits", "labels", "losses"))
    if "labels" in found and "logits" in found and plan.spec.tasks[task].head is not None:
        found.pop("losses", None)
    return found


def _names(bundle: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in bundle.named_parameters()}
