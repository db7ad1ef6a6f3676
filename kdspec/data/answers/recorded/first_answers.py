"""The first rows of a split with recorded answers, which are looked at before a run reads all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.kinds.recorded import RecordedRows

if TYPE_CHECKING:
    from kdspec.api.kinds.context import BuildContext
    from kdspec.api.kinds.kinds import Task

ROWS = 1_000


def first_answers(columns: Collection[str], task: Task, name: str, context: BuildContext) -> RecordedRows | None:
    """The first rows of `train`; None if they, or the numbers of their words, are not known before a run.

    Args:
        columns: those of the answers.
        task: the task that is taught.
        name: its name in the spec.
        context: of the spec, to read the data set.

    Raises:
        Fault: for a data set that cannot be read.
    """
    first, built = task.first_rows(context, ROWS), task.without_rows()
    if built is None or first is None or task.logits is None or any(column not in first for column in columns):
        return None
    words = _words(task, first) if task.answered == "word" else None
    if task.answered == "word" and words is None:
        return None
    found = {column: first[column] for column in columns}
    return RecordedRows(
        split="train", columns=found, logits=task.logits, task=name, classes=built.head.labels, words=words
    )


def _words(task: Task, first: Mapping[str, Sequence[Any]]) -> list[int] | None:
    """The number of words of each row; None if they are written as texts."""
    column = first.get(str(dict(task).get("tokens")), ())
    return [len(words) for words in column] if column and all(isinstance(words, list) for words in column) else None
