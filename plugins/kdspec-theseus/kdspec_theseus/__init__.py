"""Compression by progressive module replacing (BERT-of-Theseus) as a strategy of kdspec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from kdspec import (
    Component,
    Distiller,
    Fault,
    Needs,
    ObjectiveContext,
    Schedule,
    TaskNeeds,
    by_name,
    hookimpl,
)

if TYPE_CHECKING:
    from kdspec import Objective

KDSPEC_API = 1


def _replaces(rate: Schedule) -> Schedule:
    if rate.always_zero():
        raise PydanticCustomError("never_replaced", "a rate of 0 replaces nothing, so nothing is learnt", {})
    return rate


class Theseus(Distiller):
    """The student's layers replace the teacher's, with a growing probability, until all are replaced.

    Each layer of the student replaces a group of neighbouring layers of the teacher. In each forward pass of training it
    is sampled for each place which of the two computes: the student's layer, with the probability `rate`, or the
    teacher's group, frozen. So the student's layers learn to work together with the teacher's, from the labels alone:
    there is no loss between the models. When all are replaced, it is ordinary fine-tuning.

    The student is an ordinary model, usually `like: teacher` with fewer layers and
    `initialize: {layers: [0, 1, ...]}`; it is evaluated and saved without the teacher's layers.
    Paper: Xu et al. 2020, "BERT-of-Theseus: Compressing BERT by Progressive Module Replacing" (EMNLP,
    https://arxiv.org/abs/2002.02925).
    """

    name = "theseus"

    teacher: str
    """The predecessor, with the layers that are replaced: already trained, frozen, in evaluation mode."""
    student: str
    """The successor, with the layers that replace them: as wide as the teacher, and not deeper."""
    task: str | None = None
    """The task; may be left out if there is only one."""
    rate: Annotated[Schedule, AfterValidator(_replaces)] = by_name({"linear_growth": {"from": 0.3, "to": 1.7}})
    """The probability that a place is the student's: a number or a schedule. Values above 1 are 1, so the default
    reaches 1 in the middle of the stage, and all layers are the student's from then on."""
    learns: Literal["layers", "all"] = "layers"
    """The part of the student that is trained: `layers` only, as in the paper, while embeddings and head stay those of
    the teacher; or `all`."""
    layers: str | None = None
    """Path of the list of layers in both models, such as `bert.encoder.layer`. Default: the only list of modules that
    is as long as the number of layers of the model."""

    def needs(self) -> Needs:
        """The labels; the modules of the teacher are used, not its outputs."""
        task = TaskNeeds(task=self.task, teachers=(self.teacher,), hard_labels=True)
        return Needs(student=self.student, tasks=(task,))

    def build(self, context: ObjectiveContext) -> Objective:
        """The objective; raises KD301 and KD302 for incompatible depths or widths."""
        from kdspec import DistillationObjective
        from kdspec_theseus.objective import Replacing, Side

        for fault in self._mistakes(context):
            raise fault
        inner = DistillationObjective(tasks=context.tasks, hard=lambda _: 1.0)
        student, teacher = (Side(name, context.facts[name].layers or 0) for name in (self.student, self.teacher))
        rate = self.rate.build(context)
        return Replacing(inner, student, teacher, rate=rate, everything=self.learns == "all", path=self.layers)

    def _mistakes(self, context: ObjectiveContext) -> Iterator[Fault]:
        student, teacher = context.facts[self.student], context.facts[self.teacher]
        for name, facts in ((self.student, student), (self.teacher, teacher)):
            if facts.layers is None:
                message = f"`theseus` needs the number of layers of `{name}`, which is unknown"
                yield Fault("KD301", message, help="a model of a plugin returns it in `facts`")
        if student.layers is not None and teacher.layers is not None and student.layers > teacher.layers:
            message = f"`{self.student}` has {student.layers} layers, more than the {teacher.layers} that it replaces"
            yield Fault("KD301", message, ("student",), help="write `config: {num_hidden_layers: ...}` in the student")
        if None not in (student.width, teacher.width) and student.width != teacher.width:
            message = f"`{self.student}` is {student.width} wide and `{self.teacher}` {teacher.width}"
            help_ = "a layer can only replace layers of the same width"
            yield Fault("KD302", message, ("student",), help=help_)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The strategy."""
    return [Theseus]
