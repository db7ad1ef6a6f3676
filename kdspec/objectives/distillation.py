"""The distillation objective: soft labels, hard labels and matches as terms of one sum. Plugins may use it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.distiller import ObjectiveContext
from kdspec.api.plan.needs import HARD_LABELS
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.working.logits import as_tensor
from kdspec.api.working.objective import Objective
from kdspec.api.working.step import Features, Step, Term, View
from kdspec.api.working.task import BuiltTask
from kdspec.diagnostics.fault import Within
from kdspec.objectives.reductions import reduced
from kdspec.objectives.soft_labels import Soft, Weight, shapes
from kdspec.ops.mean import Mean
from kdspec.ops.unpad import Packing

_PARAMETERS = len(("stages", "its name", "distiller", "its component"))  # the path of a match begins with these

SOFT_LABELS = "soft_labels"
"""The name of the term of soft labels; several heads or teachers have a suffix each."""


class DistillationObjective(Objective):
    """w_soft · Σ_heads soft + Σ_matches w · L + w_hard · mean hard, as terms by name.

    It reads layers of teachers through matches only, and is stateless between micro-batches. A subclass that differs sets
    `reads_teachers_by_matches` or `keeps_nothing` to False.
    """

    reads_teachers_by_matches = True
    keeps_nothing = True

    def __init__(
        self,
        *,
        tasks: Mapping[str, BuiltTask],
        hard: Weight | None = None,
        soft: Soft | None = None,
        context: ObjectiveContext | None = None,
    ) -> None:
        super().__init__()
        self.tasks, self.hard, self.soft = tasks, hard, soft
        planned = context.matches if context is not None else ()
        terms = [MatchTerm(match, context or BuildContext()) for match in planned]
        self._terms = tuple(term for term in terms if not term.whole)
        self._whole = {term.term: term for term in terms if term.whole}
        self.matches = nn.ModuleList(self._terms)
        # FSDP2 gathers the items of a module list for their forward pass alone, and these are used between passes too.
        self.step_matches = nn.ModuleDict({str(number): term for number, term in enumerate(self._whole.values())})
        self.compares_steps = bool(self._whole) or (
            hard is not None and any(task.across_steps for task in tasks.values())
        )
        if soft is not None and soft.module is not None:
            self.soft_loss = soft.module  # registered, so that its parameters are trained

    def forward(self, step: Step) -> dict[str, Term]:
        """The terms with a non-zero weight at this progress."""
        terms: dict[str, Term] = {}
        if self.soft is not None and (weight := self.soft.weight(step.progress)):
            for suffix, loss, share in self.soft.losses(step):
                terms[f"{SOFT_LABELS}{suffix}"] = Term(loss, weight * share)
        packing = self._packing(step)
        for match in self._terms:
            if weight := match.weight(step.progress):
                try:
                    terms[match.term] = Term(match(step, packing), weight)
                except Exception as error:
                    raise match.within(step) from error
        if self.hard is not None and (weight := self.hard(step.progress)) and not self.tasks[step.task].across_steps:
            losses, share = _hard(self.tasks[step.task], step)
            for name, loss in losses.items():
                terms[HARD_LABELS if len(losses) == 1 else f"{HARD_LABELS}.{name}"] = Term(loss, weight * share)
        return terms

    def views(self, step: Step) -> dict[str, View]:
        """Those of the matches with a loss over a whole step, and of hard labels that are compared across one."""
        found = {}
        if self.hard is not None and self.hard(step.progress) and (task := self.tasks[step.task]).across_steps:
            view = task.hard_view(step.student, step.batch)
            assert view is not None, "a task across steps has the tensors that its hard loss compares"
            found[HARD_LABELS] = view
        for name, match in self._whole.items():
            if match.weight(step.progress):
                try:
                    found[name] = match.view(step)
                except Exception as error:
                    raise match.within(step) from error
        return found

    def relate(self, views: Mapping[str, View], progress: float) -> dict[str, Term]:
        """Their losses."""
        found = {}
        for name, view in views.items():
            if name == HARD_LABELS and self.hard is not None:
                across = next(task for task in self.tasks.values() if task.across_steps)
                (loss,) = across.hard_loss_across(view).values()
                found[name] = Term(loss, self.hard(progress))
                continue
            match = self._whole[name]
            try:
                found[name] = Term(match.compared(view), match.weight(progress))
            except Exception as error:
                raise match.at(f"`{match.planned.feature}` of the step: {shapes(view.student)}") from error
        return found

    def _packing(self, step: Step) -> Packing | None:
        """The packing that removes padding, so that each layer is packed once for all matches."""
        masks = step.student.heads("inputs_mask") if any(match.packs for match in self._terms) else ()
        return Packing.by(masks[0]) if masks else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A group for each projection, with the options that the spec gives it."""
        return [
            {"name": match.term, "params": list(match.projection.parameters()), **match.options}
            for match in (*self._terms, *self._whole.values())
            if match.projection is not None
        ]

    def path_of(self, term: str) -> tuple[str | int, ...]:
        """Soft and hard labels are parameters of that name."""
        kind = term.partition(".")[0]
        return (kind,) if kind in (SOFT_LABELS, HARD_LABELS) else ()


class MatchTerm(nn.Module):
    """One match: its projection, its loss and its weight."""

    def __init__(self, match: PlannedMatch, context: BuildContext) -> None:
        super().__init__()
        self.term, self.planned = match.term, match
        self.whole = match.loss.scope == "step"
        """Whether its loss compares the rows of a whole optimizer step."""
        self.loss = match.loss.build(context)
        self.weight = match.weight.build(context)
        self.projection = match.build_projection(context)
        self.options: Mapping[str, Any] = {}
        if match.projection is not None:
            self.options = match.projection.optimizer_options()
        self.packs = match.loss.packs() and (match.projection is None or match.projection.packs())
        """Whether it takes tokens without padding."""
        self.reduced = reduced(match)
        """The reduction of the teacher's layers that is enough for the loss; a cache may have it in place of the layers."""

    def forward(self, step: Step, packing: Packing | None = None) -> Tensor | Mean:
        """The unweighted loss of this match."""
        match = self.planned
        student = _layers(step.student, match.feature, match.student_layers)
        features = step.teachers[match.teacher]
        enough = self.reduced is not None and self.reduced.name in features
        layers = [] if enough else _layers(features, match.feature, match.teacher_layers)
        over: dict[str, Any] = {}
        if packing is not None and self.packs and not enough and all(map(packing.suits, (*student, *layers))):
            student, layers = [packing.of(layer) for layer in student], [packing.of(layer) for layer in layers]
            over["lengths"] = packing.lengths
        else:
            masks = step.student.heads("inputs_mask")
            over["mask"] = masks[0] if masks else None
        if self.projection is not None:
            projected = {id(layer): self.projection(layer) for layer in student}
            student = [projected[id(layer)] for layer in student]
        one = match.loss.arity == 1
        teacher: Any = features[self.reduced.name] if enough and self.reduced else layers[0] if one else tuple(layers)
        return self.loss(student[0] if one else tuple(student), teacher, **over)

    def view(self, step: Step) -> View:
        """The tensors of a micro-batch that a loss over a whole step compares."""
        match = self.planned
        student = _layers(step.student, match.feature, match.student_layers)
        teacher = _layers(step.teachers[match.teacher], match.feature, match.teacher_layers)
        if self.projection is not None:
            student = [self.projection(layer) for layer in student]
        masks = step.student.heads("inputs_mask")
        return View(tuple(student), tuple(teacher), masks[0] if masks else None)

    def compared(self, view: View) -> Tensor | Mean:
        """The loss over all rows of a step."""
        one = self.planned.loss.arity == 1
        student, teacher = (side[0] if one else side for side in (view.student, view.teacher))
        return self.loss(student, teacher, mask=view.mask)

    def within(self, step: Step) -> Within:
        """The place of this match and the shapes of its inputs, for an error that its loss or projection raised."""
        match, student, teacher = self.planned, step.student, step.teachers[self.planned.teacher]
        sides = [(match.student, student, match.student_layers)]
        if self.reduced is None or self.reduced.name not in teacher:
            sides.insert(0, (match.teacher, teacher, match.teacher_layers))
        notes = [f"`{match.feature}` of `{name}`: {shapes(_layers(side, match.feature, i))}" for name, side, i in sides]
        if masks := student.heads("inputs_mask"):
            notes.append(f"`inputs_mask` of `{match.student}`: {shapes(masks[:1])}")
        return self.at(*notes)

    def at(self, *notes: str) -> Within:
        """The place of this match."""
        match = self.planned
        return Within(f"the loss `{match.loss.name}`", match.path[_PARAMETERS:], notes)


def _layers(features: Features, feature: str, layers: Sequence[int]) -> list[Tensor]:
    if layers:
        return [features.layer(feature, index) for index in layers]
    return [as_tensor(head) for head in features.heads(feature)]


def _hard(task: BuiltTask, step: Step) -> tuple[Mapping[str, Mean], float]:
    """The hard losses, and the share of each."""
    if own := step.student.heads("losses"):
        # The model's own loss is already a mean over its labels; their number is not known here.
        return {str(index): Mean(loss.mean(), 1.0, "labelled") for index, loss in enumerate(own)}, 1.0
    view = task.hard_view(step.student, step.batch)
    losses = task.hard_loss(step.student, step.batch) if view is None else task.hard_loss_across(view)
    return losses, 1 / max(len(losses), 1)
