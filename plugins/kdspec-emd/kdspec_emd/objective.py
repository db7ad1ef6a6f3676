"""The objective of `emd`: the terms of `DistillationObjective`, and the transport between all layers of two models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdspec import DistillationObjective, Fault, Features, Mean, Objective, Step, Term, View
from kdspec_emd.ops import plan, unit_costs, weights

Pairwise = list[list[Tensor | Mean]]


@dataclass(frozen=True, kw_only=True)
class Transport:
    """The transport of one kind of layers, built."""

    feature: str
    loss: Callable[..., Tensor | Mean]
    weight: Callable[[float], float]
    skip: int
    """Number of tensors before the first layer: 1 for hidden states, the embedding output."""


class Emd(Objective):
    """The terms of `inner`, and for each transport `Σ F · C`: F the cheapest plan, C the losses of all pairs of layers.

    Args:
        inner: soft labels, hard labels and matches, including that of the embeddings.
        transports: the features that are moved.
        teacher: the teacher's name and number of layers.
        student: likewise.
        projections: one for each layer of the student's hidden states; empty if the widths are equal.
        options: for the projections' optimizer groups.
        temperature: of the layers' weights; None: all weights stay equal.
    """

    student_weights: Tensor
    teacher_weights: Tensor

    def __init__(
        self,
        inner: DistillationObjective,
        transports: Sequence[Transport],
        *,
        teacher: tuple[str, int],
        student: tuple[str, int],
        projections: Sequence[nn.Module] = (),
        options: Mapping[str, Any],
        temperature: float | None,
    ) -> None:
        super().__init__()
        self.inner, self.transports, self.temperature = inner, tuple(transports), temperature
        self.teacher, self.student = teacher, student
        self.projections, self.options = nn.ModuleList(projections), options
        # Buffers, so that they are saved in checkpoints and a resumed run has them.
        self.register_buffer("student_weights", torch.full((student[1],), 1 / student[1]))
        self.register_buffer("teacher_weights", torch.full((teacher[1],), 1 / teacher[1]))
        self._units: list[list[tuple[Tensor, Tensor]]] = []
        self.compares_steps = inner.compares_steps

    def forward(self, step: Step) -> dict[str, Term]:
        """The terms with a non-zero weight at this progress."""
        terms = self.inner(step)
        units = []
        for transport in self.transports:
            if weight := transport.weight(step.progress):
                losses = self._losses(transport, step)
                costs = torch.stack([torch.stack([_value(loss) for loss in row]) for row in losses])
                flows = plan(costs, self.student_weights, self.teacher_weights)
                terms[f"emd.{transport.feature}"] = Term(_moved(flows, losses), weight)
                units.append(unit_costs(flows, costs))
        if self.temperature is not None and units:
            self._units.append(units)
        return terms

    def views(self, step: Step) -> dict[str, View]:
        """Those of `inner`."""
        return self.inner.views(step)

    def relate(self, views: Mapping[str, View], progress: float) -> dict[str, Term]:
        """The terms of `inner` over a whole optimizer step."""
        return self.inner.relate(views, progress)

    def on_step_end(self, progress: float) -> None:
        """Update the layers' weights by their costs in the micro-batches of this step."""
        del progress
        seen, self._units = self._units, []
        if self.temperature is None or not seen:
            return
        kinds = range(min(map(len, seen)))
        for side, buffer in enumerate((self.student_weights, self.teacher_weights)):
            costs = [torch.stack([units[kind][side] for units in seen]).mean(0) for kind in kinds]
            if all(cost.isfinite().all() for cost in costs):  # else the loss scaler has skipped this step
                buffer.copy_(weights(costs, self.temperature))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups of the projections, each with the options that the spec gives it."""
        layers = enumerate(self.projections, 1)
        own = [{"name": f"emd.{n}", "params": list(module.parameters()), **self.options} for n, module in layers]
        return [*self.inner.parameter_groups(), *own]

    def path_of(self, term: str) -> tuple[str | int, ...]:
        """A transport is a parameter by the name of its feature."""
        kind, _, feature = term.partition(".")
        return (feature,) if kind == "emd" else self.inner.path_of(term)

    def _losses(self, transport: Transport, step: Step) -> Pairwise:
        """For each layer of the student its loss to each of the teacher."""
        theirs = _layers(step.teachers[self.teacher[0]], transport, *self.teacher)
        own = _layers(step.student, transport, *self.student)
        if transport.feature == "hidden" and self.projections:
            own = [projection(layer) for projection, layer in zip(self.projections, own, strict=True)]
        masks = step.student.heads("inputs_mask")
        mask = masks[0] if masks else None
        return [[transport.loss(layer, other, mask=mask) for other in theirs] for layer in own]


def _layers(features: Features, transport: Transport, model: str, layers: int) -> list[Tensor]:
    found = features.heads(transport.feature)
    wanted = layers + transport.skip
    if len(found) != wanted:
        first = "the embedding output and " if transport.skip else ""
        raise Fault(
            "KD301",
            f"`{transport.feature}` of `{model}` has {len(found)} tensors; `emd` moves {first}{layers} layers",
            help="give the adaptor the whole list, such as `output.hidden_states`",
        )
    return list(found[transport.skip :])


def _value(loss: Tensor | Mean) -> Tensor:
    return loss.value if isinstance(loss, Mean) else loss


def _moved(flows: Tensor, losses: Pairwise) -> Tensor | Mean:
    """`Σ F · C`. All pairs have the same mask, so their means have the same count."""
    pairs = [
        (float(flow), loss)
        for row, line in zip(flows.tolist(), losses, strict=True)
        for flow, loss in zip(row, line, strict=True)
        if flow
    ]
    first = pairs[0][1]
    if isinstance(first, Mean):
        totals = [flow * loss.total for flow, loss in pairs if isinstance(loss, Mean)]
        return Mean(torch.stack(totals).sum(), first.count, first.per)
    return torch.stack([flow * _value(loss) for flow, loss in pairs]).sum()
