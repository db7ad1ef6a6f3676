"""Losses over a whole optimizer step, which compare the rows of all its micro-batches and processes.

First the student is run for every micro-batch without a graph, the compared tensors are gathered, and each loss is computed
once, with its gradient at these tensors. Then every micro-batch is run again with the same random numbers, now with a graph,
and the product of its tensors and of that gradient is differentiated: the gradient of the weights is that of one batch with
all rows, in the memory of one micro-batch. The gradient of a loss's own parameters is added in the first micro-batch.
Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(https://arxiv.org/abs/2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdspec.api.working.step import View
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.step.normalization import Share
from kdspec.ops.mean import Mean

if TYPE_CHECKING:
    from kdspec.api.plan.plan import StagePlan
    from kdspec.api.working.step import Step
    from kdspec.diagnostics.finding import SpecPath
    from kdspec.engine.processes.backend import Backend
    from kdspec.engine.processes.process_group import ProcessGroup
    from kdspec.engine.step.lanes.lane import Lane
    from kdspec.engine.step.lanes.lanes import Lanes
    from kdspec.engine.step.task_inputs import MicroBatch, TeacherFeatures
    from kdspec.engine.step.trainable import TrainableModule


class SteppingLoop(Protocol):
    """The part of a training loop that losses over a whole step use."""

    @property
    def stage(self) -> StagePlan:
        """The stage."""
        ...

    @property
    def trainable(self) -> TrainableModule:
        """The student with its objective."""
        ...

    @property
    def backend(self) -> Backend:
        """Where it computes."""
        ...

    @property
    def lanes(self) -> Lanes | None:
        """The lanes for micro-batches in parallel, if any."""
        ...

    @property
    def total_steps(self) -> int:
        """The number of steps of the stage."""
        ...

    @property
    def guard(self) -> AbstractContextManager[None]:
        """A context for code of the strategy: exceptions become findings."""
        ...

    @property
    def place(self) -> Callable[[str], SpecPath]:
        """Gives the place of a term in the spec."""
        ...

    def teacher_features(self, step: int, micro: int, drawn: MicroBatch) -> TeacherFeatures:
        """The teachers' features for a micro-batch."""
        ...

    def at(
        self, step: int, micro: int, drawn: MicroBatch, lane: Lane | None, teacher_features: TeacherFeatures | None
    ) -> Step:
        """The features of a micro-batch."""
        ...


_Place = tuple[int, int]
"""A micro-batch and its process; their order is that of the micro-batches of a single process."""


@dataclass(frozen=True)
class WholeTerm:
    """A computed term over a whole step, and its gradients for the micro-batches of this process."""

    value: Tensor
    weight: float
    share: Share
    """The share of the value that is recorded for each micro-batch."""
    gradients: Mapping[int, tuple[Tensor, ...]]
    """For each micro-batch the gradient of the value at the tensors of its own rows."""
    of_step: float
    """The share of the value in the loss of the step: that of its tasks."""

    first: int | None = None
    """The micro-batch of this process that comes first of all; None if it is another process's."""
    of_parameters: Mapping[str, Tensor] = field(default_factory=dict)
    """The gradient of the value at the objective's parameters that it depends on, by their names there."""

    def surrogate(self, micro: int, view: View, objective: nn.Module) -> Tensor:
        """A scalar with the micro-batch's share of the value's gradient; 0 for placeholder rows.

        `objective` is the one that gave the view, so that lanes accumulate gradients of their own.
        """
        gradients = self.gradients.get(micro)
        if gradients is None:
            found = torch.stack([tensor.sum() for tensor in view.student]).sum() * 0
        else:
            pairs = zip(view.student, gradients, strict=True)
            found = torch.stack([(tensor * gradient).sum() for tensor, gradient in pairs]).sum()
        # Every process has the whole gradient of the parameters, and one adds it. The others reach them all the same, since
        # the reduction over processes waits for them.
        for name, gradient in self.of_parameters.items():
            found = found + (objective.get_parameter(name) * gradient).sum() * float(micro == self.first)
        return found


def check_whole_steps(loop: SteppingLoop) -> None:
    """Check before the first step that losses over whole steps can be computed.

    Raises:
        FindingError: KD516.
    """
    objective, training = loop.trainable.objective, loop.stage.training
    if not objective.compares_steps:
        return
    # fp16: the gradients at the features are not covered by the loss scaling and would underflow. compile: a compiled pass
    # without a graph samples other dropout masks than the pass with a graph, so the two passes would not match.
    for setting, value in (("precision: fp16", loop.backend.scales), ("compile: true", training.compile)):
        if value:
            message = f"a loss of the scope `step` cannot be computed with `{setting}`"
            raise FindingError(Finding("KD516", message, loop.place(""), help=f"leave out `{setting}`"))


def over_whole_step(
    loop: SteppingLoop, step: int, drawn: Sequence[MicroBatch], of_tasks: Mapping[str, float]
) -> tuple[list[TeacherFeatures | None], Mapping[str, WholeTerm]]:
    """The teachers' features for each micro-batch, if they are already computed, and the terms over the whole step.

    Args:
        loop: the loop.
        step: the number of the step, from 0.
        drawn: its micro-batches in this process.
        of_tasks: the share of each task in the step.
    """
    if not loop.trainable.objective.compares_steps:
        return [None] * len(drawn), {}
    teacher_features = [loop.teacher_features(step, micro, each) for micro, each in enumerate(drawn)]
    views = _views(loop, step, drawn, teacher_features)
    return list(teacher_features), _related(loop, step, views, [each.task for each in drawn], of_tasks)


def _views(
    loop: SteppingLoop, step: int, drawn: Sequence[MicroBatch], teacher_features: Sequence[TeacherFeatures]
) -> list[dict[str, View]]:
    """For each micro-batch the compared tensors of its rows, without a graph; nothing for placeholder rows."""
    views: list[dict[str, View]] = [{} for _ in drawn]

    def look(lane: Lane | None, micro: int) -> None:
        objective = (loop.trainable if lane is None else lane.trainable).objective
        with torch.no_grad():
            at = loop.at(step, micro, drawn[micro], lane, teacher_features[micro])
            with loop.backend.autocast(), loop.guard:
                found = objective.views(at)
        views[micro] = {} if drawn[micro].empty else found

    buffers = [(buffer, buffer.clone()) for buffer in loop.trainable.buffers()]
    if loop.lanes is None:
        for micro in range(len(drawn)):
            loop.backend.evaluate(loop.trainable, partial(look, None, micro))
    else:
        loop.lanes.work([each.size for each in drawn], look)
    for (
        buffer,
        before,
    ) in buffers:  # batch norm updates its statistics in this pass too: the second pass must start alike
        buffer.copy_(before)
    return views


def _related(
    loop: SteppingLoop,
    step: int,
    views: Sequence[Mapping[str, View]],
    tasks: Sequence[str],
    of_tasks: Mapping[str, float],
) -> dict[str, WholeTerm]:
    """The terms, each computed once over the rows of all micro-batches and processes."""
    everywhere = _everywhere(loop.backend.process_group, views)
    # FSDP2 gathers the parameters of losses for this.
    work = partial(_computed, loop, step, everywhere, tasks, of_tasks)
    return loop.backend.evaluate(loop.trainable, work) if everywhere else {}


def _computed(
    loop: SteppingLoop,
    step: int,
    everywhere: Mapping[str, Mapping[_Place, View]],
    tasks: Sequence[str],
    of_tasks: Mapping[str, float],
) -> dict[str, WholeTerm]:
    found: dict[str, WholeTerm] = {}
    objective = loop.trainable.objective
    for name, by_place in everywhere.items():
        places = sorted(by_place)
        whole = joined([by_place[place] for place in places])
        leaves = tuple(tensor.to(loop.backend.device).requires_grad_() for tensor in whole.student)
        teacher = tuple(tensor.to(loop.backend.device) for tensor in whole.teacher)
        mask = None if whole.mask is None else whole.mask.to(loop.backend.device)
        with torch.enable_grad(), loop.backend.autocast(), loop.guard:
            terms = objective.relate({name: View(leaves, teacher, mask)}, step / loop.total_steps)
        for term in terms.values():
            value = term.loss.value if isinstance(term.loss, Mean) else term.loss
            if not loop.backend.divided:
                loop.trainable.check_reached(value, loop.place(name))
            own = {key: each for key, each in objective.named_parameters() if each.requires_grad}
            gradients = torch.autograd.grad(value, (*leaves, *own.values()), allow_unused=True)
            of_rows = zip(leaves, gradients[: len(leaves)], strict=True)
            at_rows = [torch.zeros_like(leaf) if each is None else each for leaf, each in of_rows]
            at_parameters = zip(own, gradients[len(leaves) :], strict=True)
            micro, rank = places[0]
            # Micro-batch n is of the same task on every rank. A term of several tasks has the shares of all of them.
            of_step = sum(of_tasks[task] for task in {tasks[number] for number, _ in places})
            found[name] = WholeTerm(
                value=value.detach(),
                weight=term.weight,
                share=Share(1 / len(places), of_step / len(places)),
                of_step=of_step,
                gradients=dict(_own(loop.backend.rank, places, by_place, at_rows)),
                first=micro if rank == loop.backend.rank else None,
                of_parameters={key: gradient for key, gradient in at_parameters if gradient is not None},
            )
    return found


def joined(views: Sequence[View]) -> View:
    """The rows of several micro-batches, padded to the longest.

    Raises:
        Fault: KD404 if rows differ in length and there is no mask.
    """
    masks = [view.mask for view in views if view.mask is not None]
    student = tuple(_padded(tensors) for tensors in zip(*(view.student for view in views), strict=True))
    teacher = tuple(_padded(tensors) for tensors in zip(*(view.teacher for view in views), strict=True))
    same = all(
        len({tensor.shape[1:] for tensor in each}) == 1 for each in zip(*(v.student for v in views), strict=True)
    )
    if len(masks) < len(views):
        if not same:
            message = "rows of a step differ in length, and the student's adaptor has no `inputs_mask`"
            raise Fault("KD404", message, help="write `inputs_mask: batch.attention_mask`")
        return View(student, teacher)
    return View(student, teacher, _padded(masks))


def _padded(tensors: Sequence[Tensor]) -> Tensor:
    sizes = [max(axis) for axis in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    made = []
    for tensor in tensors:
        missing = [size - own for size, own in zip(sizes, tensor.shape[1:], strict=True)]
        pad = [side for more in reversed(missing) for side in (0, more)]
        made.append(functional.pad(tensor.detach(), pad) if any(missing) else tensor.detach())
    return torch.cat(made)


def _own(
    rank: int, places: Sequence[_Place], views: Mapping[_Place, View], gradients: Sequence[Tensor]
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """For each micro-batch of this process the gradients of its rows, without padding."""
    starts = [0] * len(gradients)  # of each tensor its own: rows, and texts of rows, differ in number
    for micro, of in places:
        shapes = [tensor.shape for tensor in views[micro, of].student]
        if of == rank:
            own = (
                (slice(start, start + shape[0]), *map(slice, shape[1:]))
                for start, shape in zip(starts, shapes, strict=True)
            )
            yield micro, tuple(gradient[part] for gradient, part in zip(gradients, own, strict=True))
        starts = [start + shape[0] for start, shape in zip(starts, shapes, strict=True)]


def _everywhere(group: ProcessGroup, views: Sequence[Mapping[str, View]]) -> dict[str, dict[_Place, View]]:
    """The views of all processes, by term and by place."""
    found: dict[str, dict[_Place, View]] = {}
    if group.world == 1:
        for micro, each in enumerate(views):
            for name, view in each.items():
                found.setdefault(name, {})[micro, 0] = view
        return found
    own = {
        f"{micro}/{group.rank}/{kind}/{index}/{name}": tensor
        for micro, each in enumerate(views)
        for name, view in each.items()
        for kind, tensors in (
            ("s", view.student),
            ("t", view.teacher),
            ("m", () if view.mask is None else (view.mask,)),
        )
        for index, tensor in enumerate(tensors)
    }
    everywhere = group.spread({key: tensor for there in group.bring(own) for key, tensor in there.items()})
    parts: dict[tuple[str, _Place], dict[str, list[Tensor]]] = {}
    for key in sorted(everywhere, key=lambda key: int(key.split("/", 4)[3])):  # the tensors of a side in their order
        number, rank, kind, _, name = key.split("/", 4)
        parts.setdefault((name, (int(number), int(rank))), {}).setdefault(kind, []).append(everywhere[key])
    for (name, place), sides in parts.items():
        mask = sides.get("m", [None])[0]
        found.setdefault(name, {})[place] = View(tuple(sides["s"]), tuple(sides.get("t", ())), mask)
    return dict(sorted(found.items()))
