"""Data sets from files, and from the hub."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import DatasetContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.spec.file_fields import SpecHub
from kdspec.data.files.delimited import csv_columns, read_csv
from kdspec.data.files.file_text import FileMistake
from kdspec.data.files.json_rows import json_columns, read_json
from kdspec.data.files.parquet_rows import read_parquet
from kdspec.data.files.row_files import CODE, SPLITS, RowFiles, RowPlace, arrow, joined, line, text_table
from kdspec.data.files.shares import Share, form, left_of, parted
from kdspec.diagnostics.fault import Fault


def _one_character(value: str) -> str:
    if len(value) != 1 or value in '\r\n"':
        message = 'a delimiter is one character, not a quote or a line break; a tab is `"\\t"`'
        raise PydanticCustomError("wrong_value", message)
    return value


class Csv(RowFiles):
    """Delimited text files in UTF-8, which may be compressed: `.csv.gz`, `.bz2` or `.xz`.

    Every field is a text, as it is written; a task that asks for numbers makes them of it. A column without a name is
    passed over.
    """

    name = "csv"

    delimiter: Annotated[str, AfterValidator(_one_character)] = Field(
        default=",", json_schema_extra={"pattern": r'^[^\r\n"]$'}
    )
    r"""The separator of fields: one character, `"\t"` for a tab."""
    quoting: bool = True
    r"""Whether `"` encloses a field. Default: true, but false where `delimiter` is a tab, as in GLUE's files."""
    columns: list[str] | None = Field(default=None, min_length=1)
    """Names of the columns, for a file without a header; an empty name passes a column over."""

    @model_validator(mode="after")
    def _tabs_do_not_quote(self) -> Self:
        if self._written() is None and self.delimiter == "\t":
            object.__setattr__(self, "quoting", False)
        return self

    def _table(self, files: list[Path], at: RowPlace) -> Any:
        quoting = self._written()
        parts = [read_csv(file, self.delimiter, quoting=quoting, names=self.columns) for file in at.each(files)]
        return text_table(joined(parts, at))

    def _names(self, file: Path) -> Collection[str] | None:
        return csv_columns(file, self.delimiter, quoting=self._written(), names=self.columns)

    def _written(self) -> bool | None:
        return self.quoting if "quoting" in self.model_fields_set else None


class Json(RowFiles):
    """Objects, one per line (JSON Lines) or all in one array, in UTF-8; also compressed: `.jsonl.gz`, `.bz2` or `.xz`."""

    name = "json"

    field: str | None = None
    """The key of the array of rows, for a file that is one object."""

    def _table(self, files: list[Path], at: RowPlace) -> Any:
        return arrow(joined([read_json(file, self.field, at.reads, at.quotes) for file in at.each(files)], at), at)

    def _names(self, file: Path) -> Collection[str] | None:
        return json_columns(file, self.field)


class Parquet(RowFiles):
    """Apache Parquet files."""

    name = "parquet"

    def _table(self, files: list[Path], at: RowPlace) -> Any:
        import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types

        try:
            return pa.concat_tables([read_parquet(file) for file in at.each(files)])
        except pa.ArrowException as error:
            raise FileMistake(f"the file cannot be read: {line(error)}") from error


NameOrShare = Annotated[Annotated[str, Tag("named")] | Annotated[Share, Tag("share")], Discriminator(form)]


def _shares(splits: Mapping[Any, str | float] | None) -> dict[str, float]:
    return {name: value for name, value in (splits or {}).items() if isinstance(value, float)}


class Hub(Dataset):
    """A data set on the Hugging Face hub. It is downloaded once; only data is loaded, never code."""

    name = "hub"

    path: SpecHub = Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
    """Its name: `nyu-mll/glue`."""
    subset: str | None = None
    """The configuration, for a data set that has several: `sst2`."""
    revision: str | None = None
    """Branch, tag or commit. Without it a run depends on what the data set's owner last changed."""
    splits: dict[Literal["train", "validation", "test", "unlabelled"], NameOrShare] | None = None
    """Which of its splits to use as which: `{train: train, validation: validation_matched}`; parts such as
    `train[:1000]` are possible. A number is a share of the rows of `train`. Default: the splits of the same names."""

    @field_validator("splits")
    @classmethod
    def _has_rows_to_learn_from(cls, splits: dict[str, str | float] | None) -> dict[str, str | float] | None:
        if splits is not None and "train" not in splits:
            raise PydanticCustomError("missing_key", "missing key `{key}`", {"key": "train"})
        if splits is not None and not isinstance(splits["train"], str):
            raise PydanticCustomError("wrong_value", "`train` is a split of the data set, not a share")
        left_of(_shares(splits))
        return splits

    def build(self, context: DatasetContext) -> Any:
        """A `datasets.DatasetDict`."""
        import datasets

        if Path(self.path).is_dir():  # the library would load the folder, not the hub's data set
            raise Fault(
                CODE,
                f"`{self.path}` is a local folder",
                ("path",),
                help="read its files with `csv`, `json` or `parquet`",
            )
        with _no_bars():
            if self.splits is not None:
                named = {ours: theirs for ours, theirs in self.splits.items() if isinstance(theirs, str)}
                made: dict[str, Any] = {ours: self._load(theirs, ("splits", ours)) for ours, theirs in named.items()}
                if shares := _shares(self.splits):
                    made |= self._parted(made["train"], shares, context)
                return datasets.DatasetDict({ours: made[ours] for ours in self.splits})
            found = self._load(None, ("path",))
        if "train" not in found:
            names = ", ".join(f"`{name}`" for name in found)
            raise Fault(
                CODE,
                f"`{self.path}` has no split `train`",
                ("path",),
                help=f"set `splits`; it has {names}",
            )
        return datasets.DatasetDict({name: found[name] for name in SPLITS if name in found})

    def _parted(self, train: Any, shares: Mapping[str, float], context: DatasetContext) -> dict[str, Any]:
        try:
            return parted(train, shares, context)
        except Fault as fault:
            fault.at = ("splits", *fault.at)
            raise

    def _load(self, split: str | None, at: tuple[str, ...]) -> Any:
        import datasets

        try:
            return datasets.load_dataset(self.path, self.subset, revision=self.revision, split=split)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise Fault(CODE, f"`{self.path}` cannot be loaded: {line(error)}", at) from error


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
    """The data sets."""
    return [Csv, Json, Parquet, Hub]
