"""Which split the table at the end of a run is of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from kdspec.api.working.task import BuiltTask
from kdspec.events import Note

_SPLITS = ("test", "validation")


def table_split(task: BuiltTask) -> str | None:
    """The first of test and validation with rows that the metrics count, or else with rows; None if neither has any."""
    there = [split for split in _SPLITS if task.rows(split)]
    return next((split for split in there if task.labelled(split)), next(iter(there), None))


def without_labels(tasks: Mapping[str, BuiltTask], taught: Collection[str]) -> Iterator[Note]:
    """Notes on tasks whose test rows have no label, for the beginning of a run.

    Args:
        tasks: the tasks by name.
        taught: those that have a teacher.
    """
    for name, task in tasks.items():
        if task.rows("test") and not task.labelled("test"):
            if task.labelled("validation"):
                instead = "the table is of the validation rows"
            elif name in taught and task.beside_teacher("test") is not None:
                instead = "the metrics of the table are measured beside the teacher"
            else:
                instead = "the table has no metrics"
            yield Note("info", f"no test row of task `{name}` has a label: {instead}")
