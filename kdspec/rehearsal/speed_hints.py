"""What would make a stage faster on this processor, by a measurement of it and the cost of the stage; never a guess."""

from __future__ import annotations

from collections.abc import Iterator

from kdspec.api.plan.plan import Plan
from kdspec.api.spec.spec import Training
from kdspec.engine.machine.processor_speed import ProcessorSpeed
from kdspec.rehearsal.result import Flops, Rehearsal, RehearsedStage

_WORTH = 1.1
"""A first epoch that becomes less than this many times as fast is not worth a change."""
_SLOWER = 0.9
"""Times as fast as float32, below which bfloat16 is a loss."""


def speed_hints(plan: Plan, rehearsal: Rehearsal, speed: ProcessorSpeed) -> dict[str, tuple[str, ...]]:
    """Hints by stage; stages without any are left out.

    Args:
        plan: the plan.
        rehearsal: its rehearsal, which has the cost.
        speed: how fast the processor is on which the plan will run.
    """
    training = {stage.name: stage.training for stage in plan.stages}
    found = {stage.name: tuple(_of(stage, training[stage.name], speed)) for stage in rehearsal.stages}
    return {name: hints for name, hints in found.items() if hints}


def _of(stage: RehearsedStage, training: Training, speed: ProcessorSpeed) -> Iterator[str]:
    costs = [part.flops for part in (stage, *stage.tasks.values()) if part.flops is not None]
    if not costs:
        return
    times = f"{speed.gain:.2g} times as fast as fp32"
    narrow = {"precision": training.precision, "teacher_precision": training.teacher_precision}
    used = [name for name, value in narrow.items() if value == "bf16"]
    if used and speed.gain < _SLOWER:
        yield f"this processor multiplies bf16 only {times}: `{used[0]}: fp32` would be faster"
    if training.precision == "fp32" and training.teacher_precision is None and (gain := _gain(costs, speed)) >= _WORTH:
        yield (
            f"this processor multiplies bf16 {times}: `teacher_precision: bf16` would make the first epoch up to "
            f"{gain:.2g} times as fast"
        )


def _gain(costs: list[Flops], speed: ProcessorSpeed) -> float:
    """How many times as fast a step becomes whose teachers run in bf16, as far as its matrix products decide."""
    teachers = sum(sum(cost.teachers.values()) for cost in costs)
    rest = sum(cost.total for cost in costs) - teachers
    return (teachers + rest) / (teachers / speed.gain + rest)
