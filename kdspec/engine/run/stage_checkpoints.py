"""Saves and restores the state of a stage: weights, optimizer, loss scale and progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue
from torch import Tensor, nn

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.evaluation.best_model import EvaluationProgress
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.run import optimizer_state
from kdspec.engine.run.checkpoint import Checkpoint, CheckpointStore
from kdspec.engine.step.frozen_weights import TeacherWeights
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import CheckpointSaved, Event, Note
from kdspec.source.read_back import Damage, Form

_MOST_PROCESSES = 2**20


class StageCheckpoints:
    """The checkpoints of one stage's training loop.

    Every process calls each method: sharded tensors are gathered and restored together. Rank 0 alone reads and writes files.

    Args:
        loop: the loop whose state is saved.
        store: the checkpoints on disk.
        processes: the number of processes that the stage began with.
        check_folder: raises KD5xx if the run folder is no longer that of this run.
        emit: called with the events.
        accept: given if the stage resumes with a changed spec; called after each checkpoint of the new spec.
    """

    def __init__(
        self,
        loop: TrainingLoop,
        store: CheckpointStore,
        *,
        processes: int,
        check_folder: Callable[[], None],
        emit: Callable[[Event], None],
        accept: Callable[[], None] | None,
    ) -> None:
        self.loop, self.store, self.processes, self.accept = loop, store, processes, accept
        self.teachers = TeacherWeights(loop.stage, loop.teachers)
        self._check_folder, self._emit = check_folder, emit

    def save(self, progress: EvaluationProgress) -> None:
        """Write a checkpoint.

        Raises:
            FindingError: KD504, KD508, or KD520 if a frozen teacher has changed.
        """
        loop, backend = self.loop, self.loop.backend
        self.teachers.check()
        # On every process: gathering sharded tensors is a collective.
        tensors, scalars = optimizer_state.flatten(loop.optimization.optimizer, _names(loop.trainable), backend.whole)
        weights = backend.state(loop.trainable)
        if backend.is_main:
            self._check_folder()
            meta = {
                "progress": vars(progress),
                "optimizer": scalars,
                "scaler": backend.scaler_state(),
                "processes": self.processes,
            }
            # The best student is loaded at the end, however old it is by then.
            best = () if progress.best_step is None else (progress.best_step,)
            groups = {"weights": weights, "optimizer": tensors, **self.teachers.state()}
            self.store.save(progress.step, groups, meta, protect=best)
            # The checkpoint precedes its event: the log never names one that is not on disk.
            self._emit(saved(loop.stage.name, progress.step))
        backend.barrier()  # no process may end before the checkpoint is on disk
        if self.accept is not None:
            # After the checkpoint: if the run is killed in between, the next start compares with the former spec again.
            self.accept()

    def resume(self, found: Checkpoint) -> EvaluationProgress:
        """Restore the state of a checkpoint, and return its progress.

        Raises:
            FindingError: KD504 if it does not fit the models.
        """
        loop, backend, state = self.loop, self.loop.backend, read_state(found)
        self._load_weights(found)
        tensors: Mapping[str, Tensor] = found.tensors.get("optimizer", {})
        optimizer_state.restore(
            loop.optimization.optimizer, _names(loop.trainable), tensors, found.meta["optimizer"],
            options=self.accept is None,  # a changed spec has its own
            part=backend.part,
        )  # fmt: skip
        backend.load_scaler_state(found.meta["scaler"])
        if self.processes != backend.world:
            text = f"stage `{loop.stage.name}` was started with {self.processes} processes and resumes with {backend.world}"
            self._emit(Note("info", f"{text}: batches are unchanged, dropout masks differ"))
        return state.progress

    def load_best(self, step: int) -> bool:
        """Load the weights of the best step; False, with a warning, if its checkpoint is damaged or missing."""
        best = None
        if self.loop.backend.is_main:
            try:
                best = self.store.load(step)
            except FindingError as error:
                text = f"{error.findings[0].message}: the last state of the model is kept instead of the best"
                self._emit(Note("warning", text))
        best = spread(best, self.loop.backend.process_group)
        if best is None:
            return False
        self._load_weights(best)
        return True

    def _load_weights(self, found: Checkpoint) -> None:
        if "weights" not in found.tensors:
            raise _damaged(found, "it has no weights")
        self.loop.backend.load(self.loop.trainable, found.tensors["weights"])
        self.teachers.restore(found.tensors)


class StageState(BaseModel):
    """The data of a checkpoint besides tensors; the state of the optimizer and of the loss scale are checked where they are loaded."""

    progress: EvaluationProgress
    optimizer: dict[str, JsonValue]
    scaler: dict[str, JsonValue]
    processes: Annotated[int, Field(ge=1, le=_MOST_PROCESSES)] = 1


_STATE: Form[StageState] = Form(StageState)


def read_state(found: Checkpoint) -> StageState:
    """The data of a checkpoint.

    Raises:
        FindingError: KD504 if it is of another form.
    """
    try:
        state = _STATE.of(found.meta)
    except Damage as damage:
        raise _damaged(found, f"{damage}") from damage
    if state.progress.step != found.step:
        raise _damaged(found, f"its `progress` is that of step {state.progress.step}")
    return state


def _damaged(found: Checkpoint, reason: str) -> FindingError:
    help_ = "remove its folder, and the run resumes from an older one"
    return FindingError(Finding("KD504", f"the checkpoint of step {found.step} is damaged: {reason}", help=help_))


def spread(found: Checkpoint | None, process_group: ProcessGroup) -> Checkpoint | None:
    """Broadcast the checkpoint of rank 0."""
    if process_group.world == 1:
        return found
    shared = process_group.share(None if found is None else [found.step, found.meta, list(found.tensors)])
    if shared is None:
        return None
    step, meta, groups = shared
    return Checkpoint(
        step, {group: process_group.spread(found.tensors[group] if found else {}) for group in groups}, meta
    )


def saved(stage: str, step: int) -> CheckpointSaved:
    """The event of a checkpoint on disk."""
    return CheckpointSaved(stage, step, f"checkpoints/{stage}/step-{step:08d}")


def _names(trainable: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in trainable.named_parameters()}
