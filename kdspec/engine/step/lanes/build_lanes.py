"""Whether the micro-batches of a stage can be computed side by side, and the lanes for it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kdspec.engine.step.lanes.lane import Lane, ModuleReplica
from kdspec.engine.step.lanes.lanes import Lanes
from kdspec.engine.step.trainable import TrainableModule
from kdspec.engine.step.training_loop import TrainingLoop


def build_lanes(loop: TrainingLoop, again: Callable[[nn.Module], TrainableModule]) -> Lanes | str:
    """The lanes that the stage's settings ask for, as far as a step has work for them, or why there cannot be any.

    Args:
        loop: the stage, whose first micro-batch is tried out.
        again: makes the bundle of a student once more.
    """
    backend, training = loop.backend, loop.stage.training
    if backend.device.type != "cpu":
        return f"a {backend.device.type} device computes one micro-batch at a time"
    if backend.world > 1:
        return "several processes compute side by side already"
    for told, value in (
        ("precision: fp16", backend.scales),
        ("gradient_checkpointing: true", training.gradient_checkpointing),
        ("compile: true", training.compile),
    ):
        if value:
            return f"not with `{told}`"
    if not loop.trainable.objective.keeps_nothing:
        return "the objective of the strategy may keep something from one micro-batch to the next"
    if loop.trainable.works_on_models:
        return "the strategy makes its own batches or changes modules"
    count = min(training.lanes, len(loop.draws.of(0)))
    if count == 1:
        return "a step has one micro-batch, which cannot be cut; write `accumulate`"
    first = Lane(loop.trainable, {task: task_inputs.student for task, task_inputs in loop.inputs_of.items()})
    loop.trainable.train()
    if why := loop.try_out(first):
        return why
    return Lanes(first, [ModuleReplica(first, again, loop.embeddings.add) for _ in range(count - 1)])
