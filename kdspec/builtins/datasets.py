"""Data sets: files of rows, and data sets on the hub."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from kdspec.component import Component
from kdspec.context import BuildContext
from kdspec.diagnostics import excerpt
from kdspec.fault import Fault
from kdspec.hookspecs import hookimpl
from kdspec.kinds import Dataset
from kdspec.paths import SpecFile
from kdspec.tables import Columns, FileMistake, csv_columns, json_columns, numbers, read_csv, read_json

_SPLITS = ("train", "validation", "test", "unlabelled")
_CODE = "KD502"
_SMALL = 32 * 2**20

Files = Annotated[
    list[SpecFile],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""A file or a list of files whose rows follow each other."""


class _Files(Dataset):
    """Rows in files, which are read into memory. A split may have columns that another one lacks."""

    train: Files
    """File or files with the rows to learn from."""
    validation: Files | None = None
    """The rows by which the best student is chosen."""
    test: Files | None = None
    """The rows that are looked at once, at the end."""
    unlabelled: Files | None = None
    """Rows without labels, for which the teacher's answer is all there is to learn."""

    def build(self, context: BuildContext) -> Any:
        """A `datasets.DatasetDict` in memory."""
        import datasets

        splits = {name: files for name in _SPLITS if (files := getattr(self, name)) is not None}
        tables = {name: self._split(name, files, context.folder) for name, files in splits.items()}
        return datasets.DatasetDict({name: datasets.Dataset(table) for name, table in tables.items()})

    def first(self, context: BuildContext, rows: int) -> Mapping[str, Sequence[Any]] | None:
        """From the first file, if it is small enough to be read for that."""
        file = context.folder / os.path.expanduser(self.train[0])  # noqa: PTH111 - raises nothing
        try:
            if file.stat().st_size > _SMALL:
                return None
            table = self._table([file], _Place())
        except (OSError, FileMistake):  # the run tells what is wrong with the file
            return None
        found: Mapping[str, Sequence[Any]] = table.slice(0, rows).to_pydict()
        return found

    def column_names(self, context: BuildContext) -> Mapping[str, Collection[str]]:
        """As the beginning of each split's first file tells."""
        found = {}
        for split in _SPLITS:
            for number, file in enumerate((getattr(self, split) or ())[:1]):
                path = context.folder / os.path.expanduser(file)  # noqa: PTH111 - raises nothing
                try:
                    names = self._names(path)
                except FileMistake as mistake:
                    raise _fault(mistake, file, (split, number)) from mistake
                if names is not None:
                    found[split] = names
        return found

    def _names(self, file: Path) -> Collection[str] | None:
        """The columns of a file, None where that would take long to tell."""
        del file
        return None

    @abstractmethod
    def _table(self, files: list[Path], at: _Place) -> Any:
        """The rows of the files; `at.file` says which of them is being read."""

    def _split(self, name: str, files: list[str], folder: Path) -> Any:
        place = _Place()
        paths = [folder / os.path.expanduser(file) for file in files]  # noqa: PTH111 - raises nothing
        try:
            return self._table(paths, place)
        except FileMistake as mistake:
            raise _fault(mistake, files[place.file], (name, place.file)) from mistake


def _fault(mistake: FileMistake, file: str, at: tuple[str | int, ...]) -> Fault:
    where = ":".join([file, *(str(number) for number in (mistake.line, mistake.column) if number)])
    return Fault(_CODE, f"{where}: {mistake.message}", at, help=mistake.help)


class _Place:
    """Which of a split's files is being read."""

    file = 0

    def each(self, files: list[Path]) -> Iterator[Path]:
        for self.file, file in enumerate(files):
            yield file


class Csv(_Files):
    """Rows of fields between delimiters, in UTF-8.

    A column in which every field is a number, or empty, has numbers; any other has text, as it is written.
    """

    name = "csv"

    delimiter: str = Field(default=",", pattern=r'^[^\r\n"]$')
    r"""What stands between two fields: one character, `"\t"` for a tab."""
    quoting: bool = True
    """Whether `"` encloses a field. GLUE's files, and most others with tabs, need `false`."""
    columns: list[str] | None = Field(default=None, min_length=1)
    """The names of the columns, for a file whose first row does not have them."""

    def _table(self, files: list[Path], at: _Place) -> Any:
        parts = [read_csv(file, self.delimiter, quoting=self.quoting, names=self.columns) for file in at.each(files)]
        return _arrow({name: numbers(values) for name, values in _joined(parts, at).items()})

    def _names(self, file: Path) -> Collection[str] | None:
        return self.columns or csv_columns(file, self.delimiter, quoting=self.quoting)


class Json(_Files):
    """Objects, one a line (JSON Lines) or all in one array, in UTF-8."""

    name = "json"

    field: str | None = None
    """For a file that is one object: the key whose value is the array of rows."""

    def _table(self, files: list[Path], at: _Place) -> Any:
        return _arrow(_joined([read_json(file, self.field) for file in at.each(files)], at))

    def _names(self, file: Path) -> Collection[str] | None:
        return json_columns(file, self.field)


class Parquet(_Files):
    """Apache Parquet files."""

    name = "parquet"

    def _table(self, files: list[Path], at: _Place) -> Any:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        try:
            tables = [pq.ParquetFile(file).read() for file in at.each(files)]
            return pa.concat_tables(tables)
        except (pa.ArrowException, OSError) as error:
            raise FileMistake(f"the file cannot be read: {_line(error)}") from error


class Hub(Dataset):
    """A data set on the Hugging Face hub, which is downloaded once. Only data is loaded, never code."""

    name = "hub"

    path: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
    """Its name: `nyu-mll/glue`."""
    subset: str | None = None
    """The configuration, for a data set that has several: `sst2`."""
    revision: str | None = None
    """Branch, tag or commit. Left out, a run depends on what the data set's owner last did."""
    splits: dict[Literal["train", "validation", "test", "unlabelled"], str] | None = None
    """Which of its splits to use as which: `{train: train, validation: validation_matched}`; parts such as
    `train[:1000]` are possible. Left out: the splits of the same names."""

    @field_validator("splits")
    @classmethod
    def _has_rows_to_learn_from(cls, splits: dict[str, str] | None) -> dict[str, str] | None:
        if splits is not None and "train" not in splits:
            raise PydanticCustomError("missing_key", "missing key `{key}`", {"key": "train"})
        return splits

    def build(self, context: BuildContext) -> Any:
        """A `datasets.DatasetDict`."""
        import datasets

        del context
        if Path(self.path).is_dir():  # the library would take it in place of the hub's
            raise Fault(
                _CODE,
                f"`{self.path}` is a folder here",
                ("path",),
                help="its files are read by `csv`, `json` or `parquet`",
            )
        with _no_bars():
            if self.splits is not None:
                return datasets.DatasetDict(
                    {ours: self._load(theirs, ("splits", ours)) for ours, theirs in self.splits.items()}
                )
            found = self._load(None, ("path",))
        if "train" not in found:
            names = ", ".join(f"`{name}`" for name in found)
            raise Fault(
                _CODE,
                f"`{self.path}` has no split `train`",
                ("path",),
                help=f"name its splits, which are {names}, in `splits`",
            )
        return datasets.DatasetDict({name: found[name] for name in _SPLITS if name in found})

    def _load(self, split: str | None, at: tuple[str, ...]) -> Any:
        import datasets

        try:
            return datasets.load_dataset(self.path, self.subset, revision=self.revision, split=split)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise Fault(_CODE, f"`{self.path}` cannot be loaded: {_line(error)}", at) from error


def _joined(parts: list[Columns], at: _Place) -> Columns:
    for at.file, part in enumerate(parts):
        if part.keys() != parts[0].keys():
            names = ", ".join(f"`{excerpt(name)}`" for name in sorted(part.keys() ^ parts[0].keys()))
            raise FileMistake(f"its columns differ from those of the first file in {names}")
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _arrow(columns: Columns) -> Any:
    import pyarrow as pa

    made = {}
    for name, values in columns.items():
        try:
            made[name] = pa.array(values)
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            raise FileMistake(f"the values of `{excerpt(name)}` are not of one type: {_line(error)}") from error
    return pa.table(made)


def _line(error: Exception) -> str:
    return excerpt(" ".join(str(error).split()), 160)


@contextmanager
def _no_bars() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Hand over the data sets."""
    return [Csv, Json, Parquet, Hub]
