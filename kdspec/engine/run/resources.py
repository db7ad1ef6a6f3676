"""Disk space for a stage's checkpoints, checked before its first step, and memory use in out-of-memory errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import Tensor, nn
from torch.optim import Optimizer

from kdspec.diagnostics.finding import Finding, FindingError, SpecPath
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import StepDone


def check_disk(folder: RunFolder, stage: str, loop: TrainingLoop, saves: int, at: SpecPath) -> None:
    """Check before training that the disk has space for the stage's checkpoints.

    The estimate is a lower bound: the stage may write more, and other programs may fill the disk.

    Args:
        folder: the folder of the run.
        stage: the stage.
        loop: its models and its optimizer.
        saves: the number of checkpoints that it will write.
        at: the place of `checkpoint.keep` in the spec.

    Raises:
        FindingError: KD508.
    """
    store = folder.checkpoints(stage, loop.stage.training.checkpoint.keep)
    weights = _bytes(_state(loop.trainable))
    one = weights + _optimizer_bytes(loop.optimization.optimizer)
    # The newest checkpoint is written before the oldest one is removed.
    copies = max(min(saves, store.keep + 1 - len(store.steps())), min(saves, 1))
    needed = copies * one + _bytes(_state(loop.trainable.student))
    try:
        free = shutil.disk_usage(folder.path).free
    except OSError:  # the first write will report it
        return
    if needed > free:
        message = f"not enough disk space in `{folder.path}` for the checkpoints of stage `{stage}`"
        notes = (
            f"a checkpoint has {_size(one)}, and up to {copies} are kept at once: with the student {_size(needed)}",
            f"{_size(free)} are free",
        )
        help_ = "free some space, choose another folder with `--output`, or keep fewer with `checkpoint: {keep: 1}`"
        raise FindingError(Finding("KD508", message, at, notes=notes, help=help_))


def explaining(loop: TrainingLoop, start: int) -> Iterator[StepDone]:
    """The steps of a loop; an out-of-memory error gets notes on what uses the memory."""
    try:
        yield from loop.run(start)
    except FindingError as error:
        if all(found.code != "KD511" for found in error.findings):
            raise
        raise _explained(error, loop) from error


def _explained(error: FindingError, loop: TrainingLoop) -> FindingError:
    notes = tuple(_held(loop))
    explained = (replace(d, notes=(*d.notes, *notes)) if d.code == "KD511" else d for d in error.findings)
    return FindingError(*explained)


def _held(loop: TrainingLoop) -> Iterator[str]:
    weights = list(loop.trainable.parameters())
    trained = [p for p in weights if p.requires_grad]
    state = _optimizer_bytes(loop.optimization.optimizer)
    student = f"`{loop.stage.student}`, its projections and losses use {_size(_bytes(weights))}"
    yield f"{student}, their gradients {_size(_bytes(trained))}, and the optimizer's state {_size(state)}"
    teachers = {t.name: t.module for task_inputs in loop.inputs_of.values() for t in task_inputs.teachers.values()}
    for name, module in teachers.items():
        yield f"teacher `{name}` uses {_size(_bytes(module.parameters()))}"
    yield "the rest is activations of a micro-batch for the backward pass, which grow with its rows and tokens"


def _optimizer_bytes(optimizer: Optimizer) -> int:
    """The bytes of the optimizer's state, or of the state after the first step for optimizers of torch."""
    there = [value for entries in optimizer.state.values() for value in entries.values() if isinstance(value, Tensor)]
    if there:
        return _bytes(there)
    defaults = optimizer.defaults
    known = type(optimizer).__module__.startswith("torch.optim")
    slots = (2 if "betas" in defaults else bool(defaults.get("momentum"))) if known else 0
    return slots * _bytes(p for group in optimizer.param_groups for p in group["params"] if p.requires_grad)


def _state(module: nn.Module) -> list[Tensor]:
    """The tensors of a module in a checkpoint, each once."""
    return [*module.parameters(), *module.buffers()]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def _size(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"
