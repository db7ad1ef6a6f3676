"""Looks at the rows of a task: how many, their labels and lengths, what is cut, and the first row as models read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.engine.batches.loader import Loader
from kdspec.engine.preflight.encoded_values import any_in_row, flat
from kdspec.engine.preflight.facts import ReadFacts, ShownRow, SplitFacts, TaskFacts
from kdspec.engine.preflight.repeated_rows import in_train
from kdspec.engine.preflight.token_values import of_first_row, token_values

SPLITS = ("train", "validation", "test")
_IGNORE = -100
_MOST_CUT = 2_000
"""Rows that are tokenized again to count those that are cut; of more a sample."""
_CLASS = 2


def task_facts(name: str, task: BuiltTask, loaders: Mapping[str, Loader]) -> TaskFacts:
    """What is told of the rows of a task, without its models' weights.

    Args:
        name: the task.
        task: its rows.
        loaders: the rows of each split, for all models; those of `train` are needed.

    Raises:
        FindingError: the errors of the task, such as KD502 for a row that cannot be read.
    """
    first = next(iter(loaders["train"].readers))
    train = loaders["train"].encoded(first)["train"]
    targets = _targets(task, train[:1], loaders["train"].readers[first]) if len(train) else {}
    repeated = in_train(task, {split: loader.encoded(first)[split] for split, loader in loaders.items()}, targets)
    splits = {
        split: _split(task, split, loader, tuple(targets), repeated.counts.get(split))
        for split, loader in loaders.items()
    }
    if unlabelled := task.rows("unlabelled"):
        splits["unlabelled"] = SplitFacts(rows=unlabelled, encoded=unlabelled, labelled=0)
    return TaskFacts(
        task=name,
        classes=tuple(task.head.labels),
        splits=splits,
        shown=tuple(_shown(task, loaders["train"], models) for models in _by_reader(loaders["train"]).values()),
        left_out=repeated.left_out,
    )


def splits_of(task: BuiltTask) -> tuple[str, ...]:
    """The splits with rows that may have labels."""
    return tuple(split for split in SPLITS if task.rows(split))


def _by_reader(loader: Loader) -> dict[Reader, tuple[str, ...]]:
    found: dict[Reader, tuple[str, ...]] = {}
    for model, reader in loader.readers.items():
        found[reader] = (*found.get(reader, ()), model)
    return found


def _targets(task: BuiltTask, rows: Sequence[Row], reader: Reader) -> dict[str, Any]:
    """The targets of some rows by name."""
    return dict(task.collate(list(rows), reader).targets)


def _split(task: BuiltTask, split: str, loader: Loader, targets: tuple[str, ...], repeated: int | None) -> SplitFacts:
    readers = _by_reader(loader)
    rows = loader.encoded(next(iter(readers.values()))[0])[split]
    labelled, labels = _labels(rows, targets, task.head.labels)
    return SplitFacts(
        rows=task.rows(split),
        encoded=len(rows),
        labelled=labelled,
        labels=labels,
        in_train=repeated,
        reads=tuple(_read(task, split, loader, reader, models) for reader, models in readers.items()),
    )


def _labels(rows: Sequence[Row], targets: tuple[str, ...], classes: Sequence[str]) -> tuple[int | None, dict[str, int]]:
    """The number of rows with a label, and how often each class is one; without counts if the labels are no classes."""
    found = flat(rows, targets[0]) if targets and len(rows) else None
    if found is None:
        return None, {}
    values, lengths = found
    if values.dtype.kind == "f":
        labelled = int(any_in_row(~np.isnan(values), lengths).sum())
        decisions = len(classes) >= _CLASS and bool((lengths == len(classes)).all())
        decisions &= bool(np.isin(values[~np.isnan(values)], (0, 1)).all())  # not the numbers of a regression
        ones = np.nansum(values.reshape(-1, len(classes)), axis=0) if decisions else ()
        return labelled, {name: round(float(count)) for name, count in zip(classes, ones, strict=False)}
    known = values[values != _IGNORE]
    labelled = int(any_in_row(values != _IGNORE, lengths).sum())
    if len(targets) > 1 or not len(known) or known.min() < 0 or (classes and known.max() >= len(classes)):
        return labelled, {}  # they are positions, or tokens
    if not classes and (lengths > 1).any():
        return labelled, {}
    counts = np.bincount(known.astype(np.int64), minlength=len(classes)).tolist()
    names = classes or [str(number) for number in range(len(counts))]
    return labelled, dict(zip(names, counts, strict=True))


def _read(task: BuiltTask, split: str, loader: Loader, reader: Reader, models: tuple[str, ...]) -> ReadFacts:
    rows = loader.encoded(models[0])[split]
    lengths = loader.lengths_for(models[0])[: len(rows)]  # those of `unlabelled` follow
    longest = int(lengths.max()) if len(lengths) else 0
    cut = None
    if longest and reader.tokenizer is not None:
        cut = _cut(task, split, np.flatnonzero(lengths == longest).tolist(), longest, reader)
    return ReadFacts(
        models=models,
        longest=longest,
        mean=round(float(lengths.mean()), 2) if len(lengths) else 0.0,
        cut=cut,
        without_tokens=_without_tokens(task, rows, reader),
    )


def _cut(task: BuiltTask, split: str, candidates: list[int], longest: int, reader: Reader) -> int | None:
    """The rows that are longer than the longest one without the limit: only those of its length can be."""
    asked = candidates[:: -(-len(candidates) // _MOST_CUT)]
    whole = task.uncut(split, asked, reader)
    if whole is None:
        return None
    return round(sum(length > longest for length in whole) * len(candidates) / len(asked))


def _without_tokens(task: BuiltTask, rows: Sequence[Row], reader: Reader) -> int:
    """Rows with no token of their text."""
    tokenizer = reader.tokenizer
    found = token_values(task, rows, reader)
    if found is None or tokenizer is None:
        return 0
    added = sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id, tokenizer.mask_token_id})
    values, lengths = found.flat
    return len(np.unique(found.numbers[~any_in_row(~np.isin(values, added), lengths)]))


def _shown(task: BuiltTask, loader: Loader, models: tuple[str, ...]) -> ShownRow:
    reader = loader.readers[models[0]]
    row = loader.encoded(models[0])["train"][0]
    batch = task.collate([row], reader)
    tokenizer, ids = reader.tokenizer, of_first_row(task, row, reader)
    tokens = tuple(map(str, tokenizer.convert_ids_to_tokens(ids))) if tokenizer is not None else ()
    inputs = {
        f"{field}.{name}" if field else name: tensor
        for field, tensors in batch.inputs.items()
        for name, tensor in tensors.items()
    }
    return ShownRow(
        models=models,
        tokens=tokens,
        inputs={name: f"{str(t.dtype).removeprefix('torch.')} {list(t.shape[1:])}" for name, t in inputs.items()},
        labels={
            name: _names(
                target[0].reshape(-1).tolist(), task.head.labels, reader.tokenizer, len(tokens), len(batch.targets)
            )
            for name, target in batch.targets.items()
        },
    )


def _names(
    values: list[float], classes: Sequence[str], tokenizer: Any | None, tokens: int, targets: int
) -> tuple[str, ...]:
    """The labels of a row in words."""
    if values and isinstance(values[0], float):
        if len(values) == len(classes) >= _CLASS:
            return tuple(name for name, value in zip(classes, values, strict=True) if value == 1)
        return tuple("" if value != value else f"{value:g}" for value in values)  # noqa: PLR0124 - NaN: no label
    each_token = len(values) == tokens > 1

    def name(number: int) -> str:
        if number == _IGNORE:
            return ""
        if targets == 1 and number < len(classes):
            return classes[number]
        if each_token and tokenizer is not None and not classes:
            return str(tokenizer.convert_ids_to_tokens(number))
        return str(number)

    return tuple(name(int(value)) for value in values)
