"""Room: for the checkpoints of a stage on the disk before its first step, and what has filled a device's memory."""

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
    """Find out that a disk is too small before hours of training tell it.

    What is counted is the least that the stage writes: it may need more, and the disk may fill up from elsewhere.

    Args:
        folder: the folder of the run.
        stage: the stage.
        loop: its models and its optimizer.
        saves: how many checkpoints it will write.
        at: where the spec says how many are kept.

    Raises:
        FindingError: KD508.
    """
    store = folder.checkpoints(stage, loop.stage.training.checkpoint.keep)
    weights = _bytes(_state(loop.trainable))
    one = weights + _optimizer_bytes(loop.optimization.optimizer)
    # The newest one is written before the oldest one goes.
    copies = max(min(saves, store.keep + 1 - len(store.steps())), min(saves, 1))
    needed = copies * one + _bytes(_state(loop.trainable.student))
    try:
        free = shutil.disk_usage(folder.path).free
    except OSError:  # told of when something is written
        return
    if needed > free:
        message = f"there is no room for the checkpoints of stage `{stage}` in `{folder.path}`"
        notes = (
            f"a checkpoint has {_told(one)}, and up to {copies} lie there at once: with the student {_told(needed)}",
            f"{_told(free)} are free",
        )
        help_ = "free some space, choose another folder with `--output`, or keep fewer with `checkpoint: {keep: 1}`"
        raise FindingError(Finding("KD508", message, at, notes=notes, help=help_))


def explaining(loop: TrainingLoop, start: int) -> Iterator[StepDone]:
    """The steps of a loop; where memory runs out the error says what lies in it."""
    try:
        yield from loop.run(start)
    except FindingError as error:
        if all(found.code != "KD511" for found in error.findings):
            raise
        raise _explained(error, loop) from error


def _explained(error: FindingError, loop: TrainingLoop) -> FindingError:
    notes = tuple(_held(loop))
    told = (replace(d, notes=(*d.notes, *notes)) if d.code == "KD511" else d for d in error.findings)
    return FindingError(*told)


def _held(loop: TrainingLoop) -> Iterator[str]:
    weights = list(loop.trainable.parameters())
    learning = [p for p in weights if p.requires_grad]
    state = _optimizer_bytes(loop.optimization.optimizer)
    student = f"`{loop.stage.student}`, its projections and losses take {_told(_bytes(weights))}"
    yield f"{student}, their gradients {_told(_bytes(learning))}, and the optimizer's state {_told(state)}"
    teachers = {t.name: t.module for task_inputs in loop.inputs_of.values() for t in task_inputs.teachers.values()}
    for name, module in teachers.items():
        yield f"teacher `{name}` takes {_told(_bytes(module.parameters()))}"
    yield "the rest is what the layers keep of a micro-batch for the backward pass, and grows with its rows and tokens"


def _optimizer_bytes(optimizer: Optimizer) -> int:
    """What the state takes, or will take after the first step where the optimizer is one that is known."""
    there = [value for entries in optimizer.state.values() for value in entries.values() if isinstance(value, Tensor)]
    if there:
        return _bytes(there)
    defaults = optimizer.defaults
    known = type(optimizer).__module__.startswith("torch.optim")
    slots = (2 if "betas" in defaults else bool(defaults.get("momentum"))) if known else 0
    return slots * _bytes(p for group in optimizer.param_groups for p in group["params"] if p.requires_grad)


def _state(module: nn.Module) -> list[Tensor]:
    """What a checkpoint holds of a module, each tensor once."""
    return [*module.parameters(), *module.buffers()]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def _told(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"
