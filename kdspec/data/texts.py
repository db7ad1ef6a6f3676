"""The texts of a task: read from columns, tokenised, and padded into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kdspec.api.kinds.context import DatasetContext, Input
from kdspec.data.columns import ColumnPlace, no_column
from kdspec.data.row_cache import kept
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from kdspec.api.kinds.context import BuildContext, TaskContext
    from kdspec.api.kinds.kinds import Dataset

CODE = "KD502"
WithoutText = Literal["error", "leave_out"]
"""What happens to a row without a text: it stops the run, or is left out."""
USUAL_LENGTH = 128
"""Tokens of a row in a plan, if the spec has no limit."""

_ROWS_AT_ONCE = 10_000
_UNLIMITED = 10**9  # a tokenizer's own limit above it means no limit

TextColumns = Annotated[
    list[str],
    Field(min_length=1, max_length=2),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""One column, or two columns of text pairs."""

ADAPTOR: Mapping[str, str | list[str]] = MappingProxyType(
    {
        "logits": "output.logits",
        "hidden": "output.hidden_states",
        "attention": "output.attentions",
        "attention_scores": "output.attention_scores",
        "inputs_mask": "batch.attention_mask",
        "labels": "batch.labels",
    }
)
"""The field paths of features for a transformers model and a batch of texts with labels."""


def splits_of(
    data: Dataset,
    context: TaskContext,
    reads: Iterable[str | None] | None,
    *,
    inputs: Mapping[ColumnPlace, str] = MappingProxyType({}),
    together: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    without_text: WithoutText = "error",
    only: Collection[str] | None = None,
) -> Mapping[str, Any]:
    """The rows of the task's `data` by split; no split is empty.

    Args:
        data: the data set.
        context: that of the task.
        reads: the columns that the task reads besides the `inputs`; None for any.
        inputs: the columns of the texts, by the parameters that name them.
        together: the columns of texts that are not in two splits of one file; default: the `inputs`.
        classes: the columns of the classes.
        without_text: what happens to a row that has no text in one of these.
        only: the splits that are looked at; None for all.

    Raises:
        Fault: KD502 for a split without rows and for a row without a text; those of the data set, with their path below
            `data`.
    """
    try:
        every = None if reads is None else (*inputs.values(), *reads, *context.recorded)
        columns = None if every is None else tuple(name for name in every if name is not None)
        known = DatasetContext(
            folder=context.folder,
            seed=context.seed,
            reads=columns,
            inputs=tuple(inputs.values()),
            together=tuple(inputs.values() if together is None else together),
            classes=tuple(classes),
        )
        built: Mapping[str, Any] = data.build(known)
    except Fault as fault:
        fault.at = ("data", data.name, *fault.at)
        raise
    splits = {split: rows for split, rows in built.items() if only is None or split in only}
    for split, rows in splits.items():
        if not len(rows):
            raise Fault(CODE, f"the split `{split}` has no rows", ("data", data.name, split))
    return {split: _with_texts(rows, split, inputs, without_text, context) for split, rows in splits.items()}


def _with_texts(
    rows: Any, split: str, inputs: Mapping[ColumnPlace, str], without_text: WithoutText, context: TaskContext
) -> Any:
    """The rows with a text in each of the columns; a missing column is found elsewhere."""
    empty: dict[int, tuple[ColumnPlace, str]] = {}
    for at, column in inputs.items():
        if column in rows.column_names:
            for row, value in enumerate(rows[column][:]):
                if is_no_text(value) or (value == [] and without_text == "leave_out"):
                    empty.setdefault(row, (at, column))
    if not empty:
        return rows
    first = min(empty)
    at, column = empty[first]
    if without_text == "error":
        help_ = "rows are counted from 1; `without_text: leave_out` leaves such rows out"
        raise Fault(CODE, f"row {first + 1} of `{split}` has no text in `{column}`", at, help=help_)
    if len(empty) == len(rows):
        raise Fault(CODE, f"no row of `{split}` has a text in `{column}`", at)
    left_out = "1 row" if len(empty) == 1 else f"{len(empty)} rows"
    message = f"{left_out} of `{split}` without a text {'is' if len(empty) == 1 else 'are'} left out"
    help_ = "in other messages, rows are counted without these"
    context.tell(Fault("KD316", message, ("without_text",), help=help_))
    return rows.select([row for row in range(len(rows)) if row not in empty])


def is_no_text(value: Any) -> bool:
    """Whether a value is null, NaN or a blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value != value  # noqa: PLR0124 - only NaN differs from itself


def columns_of(data: Dataset, context: BuildContext) -> Mapping[str, Collection[str]]:
    """The columns of each split of the task's `data`, as far as they are known; faults as in `splits_of`."""
    try:
        return data.column_names(context)
    except Fault as fault:
        fault.at = ("data", data.name, *fault.at)
        raise


def check_column(rows: Any, split: str, column: str, at: ColumnPlace) -> None:
    """Raise the fault of a column that the split does not have."""
    if column not in rows.column_names:
        raise no_column(rows.column_names, split, column, at)


def column(rows: Any, name: str) -> Sequence[Any] | None:
    """The values of a column as they are written; None if the rows do not have it."""
    return rows[name][:] if name in rows.column_names else None


def read(rows: Any, split: str, column: str, at: ColumnPlace) -> list[str]:
    """The texts of a column; numbers as a spec writes them.

    Raises:
        Fault: KD502 for a row without a text.
    """
    values = rows[column][:]
    for row, value in enumerate(values, 1):
        if value is None or isinstance(value, (list, dict, bytes)):
            what = "no text" if value is None else f"a {type(value).__name__}"
            raise Fault(CODE, f"row {row} of `{split}` has {what} in `{column}`", at, help="rows are counted from 1")
    return [as_text(value) for value in values]


def as_text(value: Any) -> str:
    """A value as a spec writes it; a whole number alike in a column of integers and in one of floats."""
    if isinstance(value, str):
        return value
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).lower()


def present(tokenizer: Any | None) -> Any:
    """The tokenizer, which a text task needs.

    Raises:
        Fault: KD503 if there is none.
    """
    if tokenizer is None:
        raise Fault("KD503", "a model of this task has no tokenizer", help="write `tokenizer` in the model")
    return tokenizer


def limit(tokenizer: Any, max_length: int | None, *, pair: bool = False) -> int | None:
    """Maximum number of tokens of a row, special tokens included; None for no limit.

    Raises:
        Fault: KD502 if `max_length` leaves no place for a token of the text.
    """
    if max_length is None:
        return tokenizer.model_max_length if tokenizer.model_max_length < _UNLIMITED else None
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length <= special:
        message = f"`max_length` is {max_length}, and the tokenizer's special tokens take {special}"
        raise Fault(CODE, message, ("max_length",))
    return max_length


def encode(columns: Sequence[Sequence[str]], tokenizer: Any, longest: int | None) -> list[dict[str, Any]]:
    """Token ids of each row, and token types if the tokenizer returns them, without padding; cached on disk.

    Args:
        columns: one text per row, or two columns of texts for pairs.
        tokenizer: the tokenizer.
        longest: the limit; in a pair the longer text is truncated.
    """
    return kept(columns, tokenizer, longest, lambda: _encode(columns, tokenizer, longest))


def _encode(columns: Sequence[Sequence[str]], tokenizer: Any, longest: int | None) -> list[dict[str, Any]]:
    examples: list[dict[str, Any]] = []
    for start in range(0, len(columns[0]), _ROWS_AT_ONCE):
        texts = [list(column[start : start + _ROWS_AT_ONCE]) for column in columns]
        encoded = tokenizer(*texts, truncation=longest is not None, max_length=longest, return_attention_mask=False)
        examples += _rows(encoded)
    return examples


def _rows(encoded: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    return (dict(zip(keys, row, strict=True)) for row in zip(*(encoded[key] for key in keys), strict=True))


def padded(rows: Sequence[Sequence[float]], value: float, tokenizer: Any) -> Tensor:
    """Rows of one number per token as a tensor `(rows, longest)`, padded with `value` on the tokenizer's side, or on the right."""
    import numpy as np
    import torch

    flat = np.array([*chain.from_iterable(rows)])
    # Integers by way of an array: torch reads a list of them several times slower.
    numbers = torch.from_numpy(flat) if flat.dtype == np.int64 else torch.tensor(flat.tolist())
    longest = max(map(len, rows))
    if len(numbers) == longest * len(rows):
        return numbers.reshape(len(rows), longest)
    filled = torch.full((len(rows), longest), value, dtype=numbers.dtype)
    filled[_places(rows, tokenizer)] = numbers
    return filled


def _places(rows: Sequence[Sequence[float]], tokenizer: Any) -> Tensor:
    """The mask of non-padding positions of a padded batch, `(rows, longest)`."""
    import torch

    lengths = torch.tensor([len(row) for row in rows])
    places = torch.arange(int(lengths.max())) < lengths[:, None]
    return places.flip(1) if tokenizer is not None and tokenizer.padding_side == "left" else places


def collate(examples: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and, if the examples have them, `token_type_ids`, `(rows, longest)` each."""
    ids = [example["input_ids"] for example in examples]
    batch = {
        "input_ids": padded(ids, tokenizer.pad_token_id or 0, tokenizer),
        "attention_mask": _places(ids, tokenizer).long(),
    }
    if "token_type_ids" in examples[0]:
        types = [example["token_type_ids"] for example in examples]
        batch["token_type_ids"] = padded(types, tokenizer.pad_token_type_id, tokenizer)
    return batch


def sample(data: Dataset, context: BuildContext, columns: Sequence[str], rows: int) -> list[list[str]] | None:
    """The texts of the first rows of `train` in these columns, a list of words with spaces; see `Task.sample`."""
    found = data.first(context, rows)
    if found is None or any(name not in found for name in columns):
        return None
    every = zip(*(found[name] for name in columns), strict=True)
    whole = [row for row in every if not any(value is None or isinstance(value, (dict, bytes)) for value in row)]
    made = [
        [" ".join(map(str, value)) if isinstance(value, list) else as_text(value) for value in row] for row in whole
    ]
    return [list(column) for column in zip(*made, strict=True)] or None


def example(rows: int, max_length: int | None, longest: int | None) -> dict[str, Input]:
    """The inputs that `collate` makes of rows of the maximum length; see `Task.example`."""
    length = max_length or longest or USUAL_LENGTH
    shape = (rows, length if longest is None else min(length, longest))
    return {"input_ids": Input(shape), "attention_mask": Input(shape), "token_type_ids": Input(shape, value=0)}
