"""Built soft labels: the loss between the student's logits and those of its teacher, or of several teachers combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdspec.api.working.logits import DenseLogits, HeadLogits, Logits, TopKLogits
from kdspec.api.working.step import Features, Step
from kdspec.diagnostics.fault import Fault, Within
from kdspec.objectives.answer_groups import Part, by_teachers, over_groups, per_answer
from kdspec.ops import ensemble
from kdspec.ops.divergence import Tempered
from kdspec.ops.masks import rule_out, select
from kdspec.ops.mean import Mean
from kdspec.ops.probability_shift import probability_shift
from kdspec.ops.ranking.scaling import scaled_to_one
from kdspec.ops.temperature import Sides

Weight = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Soft labels, built."""

    teachers: tuple[str, ...]
    loss: Callable[..., Tensor | Mean]
    needs_labels: bool
    takes_labels: bool = False
    temperature: Callable[[Tensor, Tensor, float], float | Tensor | Sides]
    weight: Weight
    shift: bool
    min_max: bool = False
    """Whether the student's scores of a row are scaled to 0 and 1."""
    combine: Literal["logits", "probabilities", "losses"] = "logits"
    """What is averaged over several teachers."""
    shares: tuple[float, ...] | Literal["confidence"] | None = None
    """The weights of the teachers, with the sum 1; `confidence`: those of `ops.ensemble.confidence`; None: equal weights."""
    by_position: bool = False
    """Whether loss and temperature have the scope `position`, so that a large head may be applied chunk by chunk."""

    @property
    def module(self) -> nn.Module | None:
        """The loss as a module, since it may have parameters to train; None if it is a function."""
        return self.loss if isinstance(self.loss, nn.Module) else None

    def losses(self, step: Step) -> Iterator[tuple[str, Tensor | Mean, float]]:
        """For each loss the suffix of its name after `soft_labels`, the loss, and the teacher's share of the weight.

        Raises:
            Fault: KD313 or KD507 if heads or shapes of the logits differ.
            Within: an error that the loss raised.
        """
        try:
            yield from self._losses(step)
        except Fault:
            raise
        except Exception as error:
            raise Within("the loss of `soft_labels`", ("soft_labels",), self._shapes(step)) from error

    def _losses(self, step: Step) -> Iterator[tuple[str, Tensor | Mean, float]]:
        students = _kept(step.student)
        by_teacher = {name: _kept(step.teachers[name]) for name in self.teachers}
        for name, logits in by_teacher.items():
            _same_heads(students, logits, name)
            for student, teacher in zip(students, logits, strict=True):
                _same_shape(student, teacher, name)
        labels = self._labels(step, len(students))
        groups = by_teachers({name: step.teachers[name] for name in self.teachers})
        if groups is None:
            yield from self._of_heads(students, by_teacher, labels, step.progress)
            return
        parts = [
            [
                (suffix, per_answer(loss), share)
                for suffix, loss, share in self._of(names)._of_heads(  # noqa: SLF001 - of its own class
                    [each.select(rows) for each in students],
                    {name: [each.select(rows) for each in by_teacher[name]] for name in names},
                    [None if each is None else select(each, rows) for each in labels],
                    step.progress,
                )
            ]
            for names, rows in groups
        ]
        yield from (
            parts[0] if len(parts) == 1 else over_groups(parts, [rows for _, rows in groups], self._declared(parts))
        )

    def _of(self, names: tuple[str, ...]) -> Soft:
        """These soft labels with some of the teachers, which share the weight of all."""
        if names == self.teachers or not isinstance(self.shares, tuple):
            return replace(self, teachers=names)
        shares = [share for name, share in zip(self.teachers, self.shares, strict=True) if name in names]
        return replace(self, teachers=names, shares=tuple(share / sum(shares) for share in shares))

    def _declared(self, parts: Sequence[Sequence[Part]]) -> dict[str, float]:
        """The share of each loss if all teachers have answered."""
        if self.combine != "losses":
            return {}
        shares = dict(zip(self.teachers, self._constant(), strict=True))
        suffixes = {suffix for part in parts for suffix, _, _ in part}
        return {suffix: shares[name] for suffix in suffixes for name in shares if f"{suffix}.".startswith(f".{name}.")}

    def _of_heads(
        self,
        students: Sequence[Logits],
        by_teacher: Mapping[str, Sequence[Logits]],
        labels: Sequence[Tensor | None],
        progress: float,
    ) -> Iterator[tuple[str, Tensor | Mean, float]]:
        for head, student in enumerate(students):
            teachers = [logits[head] for logits in by_teacher.values()]
            number = "" if len(students) == 1 else f".{head}"
            if self.combine == "losses":
                for name, teacher, share in zip(self.teachers, teachers, self._constant(), strict=True):
                    yield f".{name}{number}", self._loss(student, [teacher], labels[head], progress), share
            else:
                yield number, self._loss(student, teachers, labels[head], progress), 1.0

    def _loss(
        self, student: Logits, teachers: Sequence[Logits], labels: Tensor | None, progress: float
    ) -> Tensor | Mean:
        if any(isinstance(teacher, TopKLogits) for teacher in teachers):
            return self._of_the_largest(student, teachers, progress)
        if not (self.by_position and isinstance(student, HeadLogits)):
            return self._of_all(student.dense(), [teacher.dense() for teacher in teachers], labels, progress)
        flat = [teacher.flat() for teacher in teachers]
        right = None if labels is None else labels.flatten()

        def loss(logits: Tensor, rows: slice) -> Mean:
            with torch.no_grad():
                here = [teacher.part(rows).dense() for teacher in flat]
            found = self._of_all(logits, here, None if right is None else right[rows], progress)
            if not isinstance(found, Mean):
                raise Fault("KD313", "a loss of the scope `position` has to give a `Mean`", ("soft_labels", "loss"))
            return found

        return student.mean(loss, () if self.module is None else tuple(self.module.parameters()))

    def _of_all(self, student: Tensor, teachers: list[Tensor], labels: Tensor | None, progress: float) -> Tensor | Mean:
        """The loss between dense logits."""
        if self.min_max:
            student = scaled_to_one(student)
        target, temperature = self._target(student, teachers, labels, progress)
        extra = {"labels": labels} if self.needs_labels or self.takes_labels else {}
        return self.loss(student, self._shifted(target, labels), temperature=temperature, **extra)

    def _of_the_largest(self, student: Logits, teachers: Sequence[Logits], progress: float) -> Mean:
        """The loss if only the largest logits of a teacher are known: over these, and all others as one more outcome."""
        (teacher, *others), divergence = teachers, self.loss
        if others or self.shift or not isinstance(divergence, Tempered) or not isinstance(teacher, TopKLogits):
            why = "several teachers cannot be averaged" if others else "this loss cannot be computed"
            help_ = "leave out `top_k` of `teacher_cache`, or take a divergence such as `kl` from one teacher"
            raise Fault("KD315", f"{why} if only the largest logits are known", ("soft_labels",), help=help_)
        flat = teacher.flat()

        def loss(logits: Tensor, rows: slice) -> Mean:
            here = flat.part(rows)
            given = self.temperature(logits, logits, progress)
            of_student, of_teacher = given if isinstance(given, Sides) else (given, given)
            if isinstance(of_student, Tensor) or isinstance(of_teacher, Tensor):
                message = "the temperature depends on all logits, and only the largest are known"
                raise Fault("KD315", message, ("soft_labels", "temperature"))
            log_q = here.log_outcomes(logits.flatten(end_dim=-2), of_student)
            return divergence.mean(here.log_probabilities(of_teacher), log_q, of_student)

        return student.mean(loss)

    def _target(
        self, student: Tensor, teachers: list[Tensor], labels: Tensor | None, progress: float
    ) -> tuple[Tensor, float | Tensor]:
        """The combined logits of the teachers, before the probability shift, for a loss at the temperature.

        Where the sides have their own temperatures it is the student's, and the teacher's logits are scaled for it.
        """
        shares = self._shares(teachers, labels) if len(teachers) > 1 else None
        mean = teachers[0] if len(teachers) == 1 else ensemble.mean_logits(teachers, shares)
        # The probabilities depend on the temperature, so a temperature that depends on the teachers uses the mean logits.
        temperature = self.temperature(student, self._shifted(mean, labels), progress)
        if isinstance(temperature, Sides):
            mean, teachers = temperature.scaled(mean), [temperature.scaled(each) for each in teachers]
            temperature = temperature.student
        if len(teachers) == 1 or self.combine == "logits":
            return mean, temperature
        _several_classes(teachers[0], "the mean of probabilities")
        return ensemble.mean_probabilities(teachers, shares, temperature=temperature), temperature

    def _shifted(self, teacher: Tensor, labels: Tensor | None) -> Tensor:
        if not self.shift:
            return teacher
        assert labels is not None, "labels are read if the shift is on"
        return probability_shift(teacher, labels)

    def _shares(self, teachers: Sequence[Tensor], labels: Tensor | None) -> Tensor | None:
        if self.shares is None:
            return None
        if self.shares == "confidence":
            _several_classes(teachers[0], "confidence")
            return ensemble.confidence(teachers, labels)
        return torch.tensor(self.shares, dtype=torch.float64, device=teachers[0].device)

    def _constant(self) -> tuple[float, ...]:
        assert self.shares != "confidence", "a loss is a mean over rows; weights per row cannot be applied afterwards"
        return self.shares or (1 / len(self.teachers),) * len(self.teachers)

    def _labels(self, step: Step, heads: int) -> Sequence[Tensor | None]:
        needed = self.needs_labels or self.shift
        if not needed and (not (self.takes_labels or self.shares == "confidence") or not step.labels):
            return [None] * heads
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

    def _shapes(self, step: Step) -> tuple[str, ...]:
        sides = [(f"teacher `{name}`", step.teachers[name]) for name in self.teachers]
        sides.append(("the student", step.student))
        return tuple(f"`logits` of {name}: {shapes(side.heads('logits'))}" for name, side in sides)


def outputs(features: Features) -> list[Logits]:
    """The logits by head. If the classes are the positions, `(batch, length)`, `logits_mask` is applied.

    Masked classes get the logit -inf, so that padding has the probability 0.
    """
    masks = _masks(features, len(features.logits))
    return [_ruled_out(value, mask) for value, mask in zip(features.logits, masks, strict=True)]


def _ruled_out(logits: Logits, mask: Tensor | None) -> Logits:
    if mask is None or (*logits.shape, logits.classes) != mask.shape:
        return logits
    return logits.mapped(lambda tensor: rule_out(tensor, mask)) if isinstance(logits, DenseLogits) else logits


def _kept(features: Features) -> list[Logits]:
    """The logits by head; for token tasks only the unmasked positions."""
    # A mask selects tokens; logits of whole rows, (batch, classes), have no tokens.
    logits = outputs(features)
    return [
        value.select(mask) if mask is not None and mask.ndim == 2 and value.shape[:2] == mask.shape else value
        for value, mask in zip(logits, _masks(features, len(logits)), strict=True)
    ]


def _masks(features: Features, heads: int) -> Sequence[Tensor | None]:
    masks = features.heads("logits_mask")
    if len(masks) not in (0, 1, heads):
        raise Fault("KD313", f"{heads} heads of logits but {len(masks)} masks in `logits_mask`")
    return masks * heads if len(masks) == 1 else masks or (None,) * heads


def shapes(values: Sequence[Any]) -> str:
    """The shapes of tensors, for a message."""
    return ", ".join(map(_shape, values))


def _shape(value: Any) -> str:
    if isinstance(value, Logits):
        return str((*value.shape, value.classes))
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _same_heads(students: Sequence[Logits], teachers: Sequence[Logits], name: str) -> None:
    if len(students) != len(teachers):
        raise Fault(
            "KD313",
            f"the student has {_counted(students)} of logits, teacher `{name}` {_counted(teachers)}",
            help="give both adaptors the same number of paths for `logits`",
        )


def _same_shape(student: Logits, teacher: Logits, name: str) -> None:
    if student.shape != teacher.shape or student.classes != teacher.classes:
        raise Fault(
            "KD507",
            f"the student's logits have shape {_shape(student)}, those of teacher `{name}` {_shape(teacher)}",
            help="both models need the same classes, and `logits_mask` in both adaptors or in neither",
        )


def _several_classes(logits: Tensor, what: str) -> None:
    if logits.shape[-1] < 2:
        message = f"{what} needs several classes, and the logits have one value per row"
        raise Fault(
            "KD313", message, ("soft_labels",), help="leave `combine: logits` and equal weights for such values"
        )


def _counted(values: Sequence[Logits]) -> str:
    return "1 head" if len(values) == 1 else f"{len(values)} heads"
