"""The classes of a task without a column of labels: those that the spec writes, or those of a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdspec.api.kinds.context import TaskContext, TrainedHead
from kdspec.data.class_match import numbered
from kdspec.data.columns import ColumnPlace
from kdspec.data.label_names import SUSPECT
from kdspec.diagnostics.diagnostic import listed
from kdspec.diagnostics.fault import Fault

HELP = "name the classes in the order of the logits, `labels: [first, second]`, or the column of the labels"
"""What to write where nothing names the classes."""


def taught_classes(context: TaskContext, labels: Sequence[str] | None, at: ColumnPlace = ()) -> tuple[str, ...]:
    """The classes in the order of the logits; reports those that come from a model.

    Args:
        context: lends the heads of models, those of teachers first.
        labels: the names that the task writes.
        at: the place of the fault and the note in the task.

    Raises:
        Fault: KD312 if nothing names them.
    """
    if labels is not None:
        return tuple(labels)
    head = lender(context.heads)
    if head is None:
        raise Fault("KD312", "nothing names the classes of rows without labels", at, help=HELP)
    names = head.labels or numbered(head.classes)
    message = f"the rows have no labels: the classes are those of `{head.model}`, {listed(names)}"
    context.tell(Fault(SUSPECT, message, at, severity="note"))
    return names


def lender(heads: Iterable[TrainedHead]) -> TrainedHead | None:
    """The first head of several classes, those with names before others."""
    several = [head for head in heads if head.classes > 1]
    return next((head for head in several if head.labels), next(iter(several), None))
