"""The parts of an objective: soft labels, hard labels and matches as terms of one sum, for our strategies and others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdspec.context import BuildContext
from kdspec.fault import Fault, Within
from kdspec.kinds import BuiltTask
from kdspec.match import PlannedMatch
from kdspec.ops.masks import rule_out, select
from kdspec.ops.mean import Mean
from kdspec.ops.shift import probability_shift
from kdspec.step import Features, Step, Term

Weight = Callable[[float], float]

_PARAMETERS = len(("stages", "its name", "distiller", "its component"))  # a match's place begins so


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Soft labels, built."""

    teacher: str
    loss: Callable[..., Tensor | Mean]
    needs_labels: bool
    temperature: Callable[[Tensor, Tensor, float], float | Tensor]
    weight: Weight
    shift: bool


class DistillationObjective(nn.Module):
    """w_soft · Σ_heads soft + Σ_matches w · L + w_hard · Σ hard, each term by its name."""

    def __init__(
        self,
        *,
        tasks: Mapping[str, BuiltTask],
        hard: Weight | None = None,
        soft: Soft | None = None,
        context: BuildContext | None = None,
    ) -> None:
        super().__init__()
        self.tasks, self.hard, self.soft = tasks, hard, soft
        planned = context.matches if context is not None else ()
        terms = [MatchTerm(match, context or BuildContext()) for match in planned]
        self.matches = nn.ModuleList(terms)
        self._terms = tuple(terms)
        if soft is not None and isinstance(soft.loss, nn.Module):
            self.soft_loss = soft.loss  # its parameters are ours to train

    def forward(self, step: Step) -> dict[str, Term]:
        """The terms whose weight is not 0 now."""
        terms: dict[str, Term] = {}
        if self.soft is not None and (weight := self.soft.weight(step.progress)):
            try:
                losses = _soft(self.soft, step)
            except Fault:
                raise
            except Exception as error:
                raise Within("the loss of `soft_labels`", ("soft_labels",), _logits(self.soft, step)) from error
            for index, loss in enumerate(losses):
                terms["soft_labels" if len(losses) == 1 else f"soft_labels.{index}"] = Term(loss, weight)
        for match in self._terms:
            if weight := match.weight(step.progress):
                try:
                    terms[match.term] = Term(match(step), weight)
                except Exception as error:
                    raise match.within(step) from error
        if self.hard is not None and (weight := self.hard(step.progress)):
            losses = _hard(self.tasks[step.task], step.student)
            for index, loss in enumerate(losses):
                terms["hard_labels" if len(losses) == 1 else f"hard_labels.{index}"] = Term(loss, weight)
        return terms

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A group for each projection, with the options that the spec gives it."""
        return [
            {"name": match.term, "params": list(match.projection.parameters()), **match.options}
            for match in self._terms
            if match.projection is not None
        ]


class MatchTerm(nn.Module):
    """One match: its projection, its loss and its weight."""

    def __init__(self, match: PlannedMatch, context: BuildContext) -> None:
        super().__init__()
        self.term, self.planned = match.term, match
        self.loss = match.loss.build(context)
        self.weight = match.weight.build(context)
        self.projection: nn.Module | None = None
        self.options: Mapping[str, Any] = {}
        if match.projection is not None:
            widths = BuildContext(
                folder=context.folder,
                seed=context.seed,
                name=match.term,
                student_width=match.student_width,
                teacher_width=match.teacher_width,
            )
            self.projection = match.projection.build(widths)
            self.options = match.projection.optimizer_options()

    def forward(self, step: Step) -> Tensor | Mean:
        """The loss of this match, not weighted."""
        match = self.planned
        student = _layers(step.student, match.feature, match.student_layers)
        teacher = _layers(step.teachers[match.teacher], match.feature, match.teacher_layers)
        if self.projection is not None:
            projected = {id(layer): self.projection(layer) for layer in student}
            student = [projected[id(layer)] for layer in student]
        masks = step.student.heads("inputs_mask")
        mask = masks[0] if masks else None
        if match.loss.arity == 1:
            return self.loss(student[0], teacher[0], mask=mask)
        return self.loss(tuple(student), tuple(teacher), mask=mask)

    def within(self, step: Step) -> Within:
        """Where this match is, and the shapes that it was given, for what its loss or projection has raised."""
        match, student, teacher = self.planned, step.student, step.teachers[self.planned.teacher]
        sides = ((match.teacher, teacher, match.teacher_layers), (match.student, student, match.student_layers))
        notes = [
            f"`{match.feature}` of `{name}`: {_shapes(_layers(side, match.feature, i))}" for name, side, i in sides
        ]
        if masks := student.heads("inputs_mask"):
            notes.append(f"`inputs_mask` of `{match.student}`: {_shapes(masks[:1])}")
        return Within(f"the loss `{match.loss.name}`", match.path[_PARAMETERS:], tuple(notes))


def _layers(features: Features, feature: str, layers: Sequence[int]) -> list[Tensor]:
    if layers:
        return [features.layer(feature, index) for index in layers]
    return list(features.heads(feature))


def _soft(soft: Soft, step: Step) -> list[Tensor | Mean]:
    students = _kept(step.student)
    teachers = _kept(step.teachers[soft.teacher])
    if len(students) != len(teachers):
        raise Fault(
            "KD313",
            f"the student has {_counted(students)} of logits, teacher `{soft.teacher}` {_counted(teachers)}",
            help="give both adaptors the same number of paths for `logits`",
        )
    labels = _labels(step, len(students)) if soft.needs_labels or soft.shift else []
    found: list[Tensor | Mean] = []
    for head, (student, teacher) in enumerate(zip(students, teachers, strict=True)):
        _same_shape(student, teacher, soft.teacher)
        target = probability_shift(teacher, labels[head]) if soft.shift else teacher
        temperature = soft.temperature(student, target, step.progress)
        extra = {"labels": labels[head]} if soft.needs_labels else {}
        found.append(soft.loss(student, target, temperature=temperature, **extra))
    return found


def outputs(features: Features) -> list[Tensor]:
    """The logits by head. Where a position is itself the class, `(batch, length)`, `logits_mask` says which there are.

    Those that it does not keep are at -inf, so that neither the padding nor anything else there matters.
    """
    logits = features.heads("logits")
    masks = _masks(features, len(logits))
    return [
        value if mask is None or value.shape != mask.shape else rule_out(value, mask)
        for value, mask in zip(logits, masks, strict=True)
    ]


def _kept(features: Features) -> list[Tensor]:
    """The logits by head, of token tasks only the positions that the mask keeps."""
    # A mask chooses tokens; logits of whole rows, (batch, classes), have none to choose from.
    logits = outputs(features)
    return [
        select(value, mask) if mask is not None and value.ndim > mask.ndim and value.shape[:2] == mask.shape else value
        for value, mask in zip(logits, _masks(features, len(logits)), strict=True)
    ]


def _masks(features: Features, heads: int) -> Sequence[Tensor | None]:
    masks = features.heads("logits_mask")
    if len(masks) not in (0, 1, heads):
        raise Fault("KD313", f"{heads} heads of logits but {len(masks)} masks in `logits_mask`")
    return masks * heads if len(masks) == 1 else masks or (None,) * heads


def _labels(step: Step, heads: int) -> list[Tensor]:
    if len(step.labels) != heads:
        raise Fault(
            "KD313",
            f"{heads} heads of logits but {len(step.labels)} of labels",
            help="give the student's adaptor one path of `labels` for each of `logits`",
        )
    return [
        select(label, mask) if mask is not None and label.shape == mask.shape else label
        for label, mask in zip(step.labels, _masks(step.student, heads), strict=True)
    ]


def _same_shape(student: Tensor, teacher: Tensor, name: str) -> None:
    if student.shape != teacher.shape:
        raise Fault(
            "KD507",
            f"the student's logits have shape {tuple(student.shape)}, those of teacher `{name}` {tuple(teacher.shape)}",
            help="both models need the same classes, and `logits_mask` in both adaptors or in neither",
        )


def _hard(task: BuiltTask, student: Features) -> list[Tensor | Mean]:
    losses = student.heads("losses")
    if losses:
        # The model's own loss is a mean over its labels already; how many they were is not known here.
        return [Mean(loss.mean(), 1.0, "labelled") for loss in losses]
    logits, labels = outputs(student), student.heads("labels")
    if len(logits) != len(labels):
        raise Fault("KD313", f"{len(logits)} heads of logits but {len(labels)} of labels")
    return [task.loss(logit, label) for logit, label in zip(logits, labels, strict=True)]


def _logits(soft: Soft, step: Step) -> tuple[str, ...]:
    sides = ((f"teacher `{soft.teacher}`", step.teachers[soft.teacher]), ("the student", step.student))
    return tuple(f"`logits` of {name}: {_shapes(side.heads('logits'))}" for name, side in sides)


def _shapes(values: Sequence[Any]) -> str:
    return ", ".join(str(tuple(v.shape)) if isinstance(v, Tensor) else f"a {type(v).__name__}" for v in values)


def _counted(values: Sequence[Tensor]) -> str:
    return "1 head" if len(values) == 1 else f"{len(values)} heads"
