"""The test suite for tasks: rows, batches, losses and metrics as the engine uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdspec.api.kinds.context import TaskContext
from kdspec.api.kinds.kinds import Task
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator
from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.data.files.row_files import SPLITS
from kdspec.testing.component_suite import check_class

if TYPE_CHECKING:
    from kdspec.ops.mean import Unit


def check_task(component: Task, *, tokenizer: Any | None = None, folder: str | Path = ".") -> None:
    """Check that a task has the properties that the engine relies on.

    - The class and its parameters are documented, and its module does not import torch.
    - `build` gives a `BuiltTask` with the head that the class states, and so does `without_rows`.
    - `encode` gives as many rows as `rows` says, alike each time.
    - `collate` gives a `Batch` of any rows: those of one row are in a batch of several too, but for padding;
      not looked at where a row is several texts.
    - `units` are positive, and those of two halves are those of both together, but for padding.
    - The evaluator's metrics are declared by `metric_names`, and its primary metric is one of them.

    Args:
        component: the task with its parameters.
        tokenizer: of its models; None for models without tokens.
        folder: where its relative paths start.

    Raises:
        AssertionError: a check fails; the message names it.
    """
    check_class(component)
    who = f"{component.words()} `{component.name}`"
    task = component.build(TaskContext(folder=Path(folder)))
    assert isinstance(task, BuiltTask), f"{who}: `build` returns a {type(task).__name__}, not a `BuiltTask`"
    bare = component.without_rows()
    for made, what in ((task, "build"), (bare, "without_rows")):
        same = made is None or made.head.kind == component.head
        assert same, (
            f"{who}: `{what}` gives the head `{made.head.kind if made else None}`, the class states `{component.head}`"
        )
    assert task.rows("train"), f"{who}: the split `train` has no rows"
    reader = Reader(tokenizer)
    for split in SPLITS:
        if task.rows(split):
            rows = _encoded(who, task, split, reader)
            _check_batches(who, task, rows, reader)
    _check_evaluator(who, component, task.evaluator("validation"))


def _encoded(who: str, task: BuiltTask, split: str, reader: Reader) -> Sequence[Row]:
    encoded = task.encode(split, [reader])
    assert len(encoded) == 1, f"{who}: `encode` gives {len(encoded)} sequences for one reader"
    (rows,) = encoded
    number = task.rows(split)
    assert len(rows) == number, f"{who}: `encode` gives {len(rows)} rows of `{split}`, `rows` says {number}"
    (again,) = task.encode(split, [reader])
    same = all(_values(one) == _values(other) for one, other in zip(rows, again, strict=True))
    assert same, f"{who}: the encoded rows of `{split}` differ from time to time"
    return rows


def _values(row: Row) -> list[tuple[str, Any]]:
    """What a row has, but for functions that draw it again."""
    return [(name, value) for name, value in row.items() if not callable(value)]


def _batch(task: BuiltTask, rows: Sequence[Row], reader: Reader) -> Batch:
    """A batch as a loader gives it."""
    return replace(task.collate(rows, reader), rows=range(len(rows)))


def _check_batches(who: str, task: BuiltTask, rows: Sequence[Row], reader: Reader) -> None:
    few = [rows[number] for number in range(min(3, len(rows)))]
    whole = task.collate(few, reader)
    assert isinstance(whole, Batch), f"{who}: `collate` returns a {type(whole).__name__}, not a `Batch`"
    assert whole.inputs, f"{who}: a batch has no inputs"
    for number, row in enumerate(few):
        alone = task.collate([row], reader)
        whole_rows = all(len(tensor) == 1 for tensors in alone.inputs.values() for tensor in tensors.values())
        for field, tensors in alone.inputs.items() if whole_rows else ():
            for name, tensor in tensors.items():
                wide = whole.inputs[field][name][number]
                kept = wide[tuple(slice(0, size) for size in tensor.shape[1:])]
                assert bool((kept == tensor[0]).all()), (
                    f"{who}: `{name}` of a row is another one in a batch of several; pad on the right"
                )
        for name, tensor in alone.targets.items():
            same = whole.targets[name][number].shape == tensor[0].shape or tensor[0].ndim
            assert same, f"{who}: the target `{name}` of a row has another shape in a batch of several"
    units = task.units(_batch(task, few, reader), {})
    assert units["rows"] == len(few), f"{who}: `units` counts {units['rows']:g} rows of {len(few)}"
    alone_ = [task.units(_batch(task, [row], reader), {}) for row in few]
    counted: tuple[Unit, ...] = ("rows", "labelled")
    for name in counted:
        total = sum(each[name] for each in alone_)
        assert units[name] == total, (
            f"{who}: `units` counts {units[name]:g} `{name}` of a batch, and {total:g} row by row"
        )


def _check_evaluator(who: str, component: Task, evaluator: Evaluator) -> None:
    assert isinstance(evaluator, Evaluator), f"{who}: `evaluator` returns a {type(evaluator).__name__}"
    primary, declared = evaluator.primary.name, component.metric_names()
    known = declared is None or primary in {*declared, "loss"}
    assert known, f"{who}: the primary metric `{primary}` is not among `metric_names`"
