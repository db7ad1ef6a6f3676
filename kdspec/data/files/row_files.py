"""The base of data sets that read their rows from files of any format."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from kdspec.api.component import invalid_value
from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.spec.file_fields import SpecFile
from kdspec.data.files.delimited import Columns
from kdspec.data.files.file_text import FileMistake, is_at_most
from kdspec.data.files.json_rows import HALF
from kdspec.data.files.shares import Share, form, left_of, parted
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

SPLITS = ("train", "validation", "test", "unlabelled")
"""The splits that a data set may have."""
CODE = "KD502"
"""The diagnostic code of errors in data."""
_SMALL = 32 * 2**20

Files = Annotated[
    list[SpecFile],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""A file, or a list of files that are concatenated."""


FilesOrShare = Annotated[Annotated[Files, Tag("named")] | Annotated[Share, Tag("share")], Discriminator(form)]
"""Files, or a share of the rows of `train`."""


def _needs_train(schema: dict[str, Any]) -> None:
    """The schema of the rows of a task; where `train` may be left out, its definition without required keys is used."""
    train = schema["properties"]["train"]
    train["anyOf"] = [form for form in train["anyOf"] if form.get("type") != "null"]
    schema["required"] = ["train"]


class RowFiles(Dataset):
    """Rows in files, which are read into memory. A split may have columns that another one lacks."""

    model_config = ConfigDict(json_schema_extra=_needs_train)

    train: Files | None = None
    """File or files of the training split; a set that models are evaluated on needs none."""
    validation: FilesOrShare | None = None
    """The validation split, which selects the best student: files, or a share of the rows of `train`, such as 0.1."""
    test: FilesOrShare | None = None
    """The test split, used once, at the end: files, or a share of the rows of `train`."""
    unlabelled: Files | None = None
    """Rows without labels: the student learns the teacher's predictions."""

    def build(self, context: DatasetContext) -> Any:
        """A `datasets.DatasetDict` in memory."""
        import datasets

        files = {name: value for name in SPLITS if isinstance(value := getattr(self, name), list)}
        made = {name: datasets.Dataset(self._split(name, value, context)) for name, value in files.items()}
        if shares := self._shares():
            made |= parted(made["train"], shares, context)
        return datasets.DatasetDict({name: made[name] for name in SPLITS if name in made})

    def _shares(self) -> dict[str, float]:
        return {name: value for name in SPLITS if isinstance(value := getattr(self, name), float)}

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        shares = self._shares()
        if all(getattr(self, split) is None for split in SPLITS):
            raise invalid_value("missing key `train`", "train", type_="missing")
        if shares and self.train is None:
            split = next(iter(shares))
            raise invalid_value(f"`{split}` is a share of the rows of `train`, and there are none", split)
        left_of(shares)
        return self

    def has_split(self, split: str) -> bool:
        """Whether files of the split are named."""
        return split in SPLITS and getattr(self, split) is not None

    def files(self, context: BuildContext) -> Mapping[str, Sequence[Path]]:
        """The files that are named; those of `train` for a share of it."""
        named = {split: value for split in SPLITS if (value := getattr(self, split)) is not None}
        return {
            split: [path_of(context.folder, file) for file in (self.train or () if isinstance(value, float) else value)]
            for split, value in named.items()
        }

    def first(self, context: BuildContext, rows: int) -> Mapping[str, Sequence[Any]] | None:
        """From the first file, if it is small enough to be read for that."""
        if self.train is None:
            return None
        file = path_of(context.folder, self.train[0])
        try:
            if not is_at_most(file, _SMALL):
                return None
            table = self._table([file], RowPlace())
        except (OSError, FileMistake):  # the run reports it
            return None
        found: Mapping[str, Sequence[Any]] = table.slice(0, rows).to_pydict()
        return found

    def column_names(self, context: BuildContext) -> Mapping[str, Collection[str]]:
        """From the beginning of each split's first file."""
        found: dict[str, Collection[str]] = {}
        for split in SPLITS:
            files = getattr(self, split)
            if isinstance(files, float):
                if "train" in found:
                    found[split] = found["train"]
                continue
            for number, file in enumerate((files or ())[:1]):
                try:
                    names = self._names(path_of(context.folder, file))
                except FileMistake as mistake:
                    raise file_fault(mistake, file, (split, number)) from mistake
                if names is not None:
                    found[split] = names
        return found

    def _names(self, file: Path) -> Collection[str] | None:
        """The columns of a file; None if finding them would take long."""
        del file
        return None

    @abstractmethod
    def _table(self, files: list[Path], at: RowPlace) -> Any:
        """The rows of the files; `at.file` is the index of the one that is being read."""

    def _split(self, name: str, files: list[str], context: DatasetContext) -> Any:
        place = RowPlace(context.reads)
        paths = [path_of(context.folder, file) for file in files]
        try:
            return self._table(paths, place)
        except FileMistake as mistake:
            raise file_fault(mistake, files[place.file], (name, place.file)) from mistake


def path_of(folder: Path, file: str) -> Path:
    """Where a file is that a spec in this folder names."""
    return folder / os.path.expanduser(file)  # noqa: PTH111 - raises nothing


def file_fault(mistake: FileMistake, file: str, at: tuple[str | int, ...]) -> Fault:
    """The fault of a mistake in a file, which the parameter `at` names as `file`."""
    where = ":".join([file, *(str(number) for number in (mistake.line, mistake.column) if number)])
    return Fault(CODE, f"{where}: {mistake.message}", at, help=mistake.help)


class RowPlace:
    """What of a split is being read: the index of the file, and the columns that anything reads.

    Args:
        columns: the columns that the task reads; None for all.
    """

    file = 0

    def __init__(self, columns: Collection[str] | None = None) -> None:
        self.columns = columns

    def reads(self, column: str) -> bool:
        """Whether the task reads the column. A mistake in one that nothing reads does not matter."""
        return self.columns is None or column in self.columns

    def quotes(self, column: str) -> bool:
        """Whether messages may quote the column: the spec names it, so that the file is the table that it asks about."""
        return self.columns is not None and column in self.columns

    def each(self, files: list[Path]) -> Iterator[Path]:
        """The files in order; `file` is set before each."""
        for self.file, file in enumerate(files):
            yield file


def joined(parts: list[Columns], at: RowPlace) -> Columns:
    """The concatenated columns of all files of a split, which must have the same columns, those that nothing reads aside."""
    for at.file, part in enumerate(parts):
        if differing := [name for name in sorted(part.keys() ^ parts[0].keys()) if at.reads(name)]:
            names = ", ".join(f"`{excerpt(name)}`" for name in differing if at.quotes(name))
            where = f" in {names}" if names else ""
            help_ = "give each file the same columns; rows that have no label may be a split of their own, `unlabelled`"
            raise FileMistake(f"its columns differ from those of the first file{where}", help=help_)
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: [value for part in parts for value in part[name]] for name in common}


def arrow(columns: Columns, at: RowPlace) -> Any:
    """The columns as an Arrow table, without those that nothing reads and that cannot be in one."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types

    made = {}
    for name, values in columns.items():
        try:
            made[name] = pa.array(values)
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            if at.reads(name):
                row, why = _unfit(values, error)
                what = f"`{excerpt(name)}` {why}" if at.quotes(name) else "a column has a value of another type"
                raise FileMistake(f"row {row}: {what}") from error
    return pa.table(made)


def _unfit(values: Sequence[Any], error: Exception) -> tuple[int, str]:
    """The first row, counted from 1, that cannot be in a column with those before it, and why."""
    import pyarrow as pa

    fit, unfit = 0, len(values)
    while unfit - fit > 1:
        middle = (fit + unfit) // 2
        try:
            pa.array(values[:middle])
            fit = middle
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as found:
            unfit, error = middle, found
    why = f"has {HALF}" if isinstance(error, UnicodeEncodeError) else f"has a value of another type: {line(error)}"
    return unfit, why


def text_table(columns: Columns) -> Any:
    """Columns of texts as an Arrow table."""
    import pyarrow as pa

    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def line(error: Exception) -> str:
    """The message of an error, in one line."""
    return excerpt(" ".join(str(error).split()), 160)
