"""Builds the lanes of a stage, or finds out why its micro-batches cannot be computed in parallel."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kdspec.engine.step.lanes.lane import Lane, ModuleReplica
from kdspec.engine.step.lanes.lanes import Lanes
from kdspec.engine.step.trainable import TrainableModule
from kdspec.engine.step.training_loop import TrainingLoop


def build_lanes(loop: TrainingLoop, again: Callable[[nn.Module], TrainableModule]) -> Lanes | str:
    """The lanes of the stage's settings, at most one per micro-batch of a step, or the reason why there are none.

    Args:
        loop: the stage; its first micro-batch is run as a trial.
        again: builds another trainable module around a copy of the student.
    """
    backend, training = loop.backend, loop.stage.training
    if backend.device.type != "cpu":
        return f"a {backend.device.type} device computes one micro-batch at a time"
    if backend.world > 1:
        return "several processes already compute in parallel"
    for setting, value in (
        ("precision: fp16", backend.scales),
        ("gradient_checkpointing: true", training.gradient_checkpointing),
        ("compile: true", training.compile),
    ):
        if value:
            return f"not with `{setting}`"
    if not loop.trainable.objective.keeps_nothing:
        return "the objective of the strategy may keep state between micro-batches"
    if loop.trainable.works_on_models:
        return "the strategy builds its own batches or changes modules"
    count = min(training.lanes, len(loop.draws.of(0)))
    if count == 1:
        return "a step has one micro-batch, which cannot be split; set `accumulate`"
    first = Lane(loop.trainable, {task: task_inputs.student for task, task_inputs in loop.inputs_of.items()})
    loop.trainable.train()
    if why := loop.try_out(first):
        return why
    return Lanes(first, [ModuleReplica(first, again, loop.embeddings.add) for _ in range(count - 1)])
