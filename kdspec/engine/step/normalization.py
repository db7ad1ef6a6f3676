"""The share of a micro-batch's loss in its optimizer step: every row or token of a task has equal weight in the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Batches
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.ops.mean import Mean, Unit

UNITS: tuple[Unit, ...] = ("rows", "labels", "labelled", "answered", "tokens", "pairs")

UnitCounts = Mapping[Unit, float]
"""The number of each unit."""


def counted(task: BuiltTask, batches: Batches, student: ModelRunner, teachers: Iterable[ModelRunner] = ()) -> Batches:
    """The batches with their units, which the task counts in the student's batch.

    The masks are those of the student's adaptor, so that a spec may name other masks than the task. The rows that are
    answered by any teacher are counted in the batches of the teachers.
    """
    batch = batches[student.name]
    units = task.units(batch, masks(batch, student.features))
    read = [masks(batches[each.name], each.features, ("answered",)) for each in teachers]
    # A teacher without the feature has answered all rows.
    known = bool(read) and all(read)
    rows = float(torch.stack([found["answered"] for found in read]).ne(0).any(0).sum()) if known else units["labels"]
    units = {**units, "answered": rows}
    # By identity: models with equal readers share a batch, and must still share it afterwards.
    made = {id(each): replace(each, units=units) for each in batches.values()}
    return {model: made[id(each)] for model, each in batches.items()}


def masks(
    batch: Batch, features: Mapping[str, Feature], names: Iterable[str] = ("inputs_mask", "logits_mask")
) -> dict[str, Tensor]:
    """The masks that an adaptor reads from a batch."""
    found = {}
    for name in names:
        feature = features.get(name)
        if feature is None or any(path.root != "batch" for path in feature.paths):
            continue
        value = feature.paths[0].evaluate(output=None, batch=batch.named, modules={})
        assert isinstance(value, Tensor)
        found[name] = value
    return found


def total(counts: Iterable[UnitCounts]) -> dict[Unit, float]:
    """The sum over micro-batches."""
    counts = list(counts)
    return {unit: sum(each.get(unit, 0.0) for each in counts) for unit in UNITS}


class Counted(NamedTuple):
    """A micro-batch of a step: its task, and its number of each unit."""

    task: str
    units: UnitCounts


class Share(NamedTuple):
    """The factor of the mean of a micro-batch."""

    of_task: float
    """In the mean over the micro-batches of its task in the step."""
    of_step: float
    """In the loss of the step."""


NO_SHARE = Share(0.0, 0.0)


class Shares:
    """The share of each micro-batch in its optimizer step, by unit.

    Every task has a share of its own, and within it every row or token has equal weight. So a row of one task is never
    compared with a token of another.

    Args:
        counts: the micro-batches of this rank.
        mode: `step`, or `micro_batch` for a mean of means, with equal weight for every micro-batch.
        everywhere: the micro-batches of all ranks; by default those of this rank.
        of_tasks: the share of each task in the step; by default there is one task.
    """

    def __init__(
        self,
        counts: Sequence[Counted],
        mode: Literal["step", "micro_batch"],
        *,
        everywhere: Sequence[Counted] | None = None,
        of_tasks: Mapping[str, float] | None = None,
    ) -> None:
        self.counts, self.mode = counts, mode
        everywhere = counts if everywhere is None else everywhere
        by_task: dict[str, list[UnitCounts]] = {each.task: [] for each in (*counts, *everywhere)}
        for each in everywhere:
            by_task[each.task].append(each.units)
        self.totals = {task: total(each) for task, each in by_task.items()}
        self._parts = {task: len(each) for task, each in by_task.items()}
        if mode == "micro_batch":
            self.of_tasks = {task: parts / max(len(everywhere), 1) for task, parts in self._parts.items()}
        else:
            self.of_tasks = dict.fromkeys(by_task, 1.0) if of_tasks is None else dict(of_tasks)

    def of(self, loss: Tensor | Mean, micro: int) -> Share:
        """The factor of the mean of micro-batch `micro`; the sum of the products is the mean of the step.

        0 if the micro-batch has no units of the loss. Its mean may then be NaN, as a model's own loss is, and 0 * NaN is
        NaN: leave the term out instead of multiplying it.
        """
        (task, counts), unit = self.counts[micro], _unit(loss)
        here = counts[unit]
        if not here:
            return NO_SHARE
        if self.mode == "micro_batch":
            return Share(1 / self._parts[task], 1 / sum(self._parts.values()))
        of_task = here / self.totals[task][unit]
        return Share(of_task, of_task * self.of_tasks[task])

    def counts_anywhere(self, loss: Tensor | Mean, micro: int) -> bool:
        """Whether a micro-batch of its task, on any rank, has units of the loss."""
        return self.totals[self.counts[micro].task][_unit(loss)] > 0


def _unit(loss: Tensor | Mean) -> Unit:
    return loss.per if isinstance(loss, Mean) else "rows"
