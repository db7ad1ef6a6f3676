"""The test suite for data sets: what tasks and checks rely on."""

from __future__ import annotations

from pathlib import Path

from kdspec.api.kinds.context import DatasetContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.data.files.row_files import SPLITS
from kdspec.testing.component_suite import check_class


def check_dataset(component: Dataset, folder: str | Path = ".") -> None:
    """Check that a data set has the properties that tasks and checks rely on.

    - The class and its parameters are documented, and its module does not import torch or `datasets`.
    - It gives a `datasets.DatasetDict` with the split `train`, which has rows, and no splits of other names.
    - It gives the same rows each time.
    - `has_split`, `column_names`, `first` and `files`, where they know anything, agree with the rows.

    Args:
        component: the data set with its parameters.
        folder: where its relative paths start.

    Raises:
        AssertionError: a check fails; the message names it.
    """
    import datasets

    check_class(component)
    who, context = f"{component.words()} `{component.name}`", DatasetContext(folder=Path(folder))
    rows, again = component.build(context), component.build(context)
    assert isinstance(rows, datasets.DatasetDict), (
        f"{who}: `build` returns a {type(rows).__name__}, not a `DatasetDict`"
    )
    assert len(rows.get("train", ())), f"{who}: the split `train` has no rows"
    other = next(iter(sorted({*rows} - {*SPLITS})), None)
    assert other is None, f"{who}: there is no split `{other}`; there are {', '.join(SPLITS)}"
    for split in rows:
        assert rows[split].to_dict() == again[split].to_dict(), f"{who}: the rows of `{split}` differ from time to time"
    for split in SPLITS:
        has = component.has_split(split)
        assert has is None or has == (split in rows), f"{who}: `has_split({split!r})` is {has}"
    for split, names in component.column_names(context).items():
        assert split in rows, f"{who}: `column_names` has the split `{split}`, which has no rows"
        found = rows[split].column_names
        assert {*names} == {*found}, (
            f"{who}: `column_names` has {sorted(names)} for `{split}`, the rows {sorted(found)}"
        )
    files = component.files(context)
    assert files is None or {*files} == {*rows}, f"{who}: `files` has {sorted(files or ())}, the rows {sorted(rows)}"
    missing = next((path for paths in (files or {}).values() for path in paths if not path.is_file()), None)
    assert missing is None, f"{who}: `files` has `{missing}`, which is no file"
    few = min(3, len(rows["train"]))
    first = component.first(context, few)
    if first is not None:
        same = {name: list(values) for name, values in first.items()} == rows["train"][:few]
        assert same, f"{who}: `first` gives other rows than `build`"
