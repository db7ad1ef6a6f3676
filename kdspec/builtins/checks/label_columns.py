"""The check of label columns: `train` has them if a loss reads labels, and what is evaluated should have them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.data.columns import named, no_column
from kdspec.data.label_names import SUSPECT
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding

if TYPE_CHECKING:
    from kdspec.api.kinds.kinds import Task
    from kdspec.api.plan.plan import Plan

_WITHOUT = MappingProxyType(
    {
        "validation": "the student of the last step is kept, and the table has no metrics of these rows",
        "test": "the table has no metrics of these rows",
    }
)


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Splits without the columns of the labels, as far as the files show them."""
    for name, task in plan.spec.tasks.items():
        used = [stage.tasks[name] for stage in plan.stages if name in stage.tasks]
        wanted = task.label_columns()
        if not used or not wanted:
            continue
        splits = _columns(task, BuildContext(folder=plan.source.folder, seed=plan.spec.seed))
        for place, column in wanted.items():
            at = ("tasks", name, task.name, *place)
            if column not in splits.get("train", (column,)):
                read = any(part.needs.reads_labels for part in used)
                absent = no_column(splits["train"], "train", column, place, asked=named(task))
                message = absent.message if read else f"{absent.message}; no loss reads its labels"
                finding = Finding("KD312" if read else SUSPECT, message, at, help=absent.help, fix=absent.fix)
                yield finding if read else replace(finding, severity="warning")
                if read:
                    continue
            for split, what in _WITHOUT.items():
                if column not in splits.get(split, (column,)):
                    message = (
                        f"the split `{split}` has no column `{excerpt(column)}`, so no row of it has a label: {what}"
                    )
                    yield Finding(SUSPECT, message, at, severity="warning")


def _columns(task: Task, context: BuildContext) -> Mapping[str, Collection[str]]:
    """The columns of each split; empty if they are not known, or the data set has a fault, which its task reports."""
    try:
        return task.column_names(context)
    except Fault:
        return {}
