"""The tokenizer beside an ONNX file, for the package `tokenizers` alone: with the run's truncation and padding in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdspec.api.working.standalone import Standalone
from kdspec.diagnostics.finding import Finding, FindingError

_COMPARED = 200


def has_file(tokenizer: Any) -> bool:
    """Whether a tokenizer can be written for `tokenizers`: it is one of transformers with a backend of that package."""
    from transformers import PreTrainedTokenizerFast

    return isinstance(tokenizer, PreTrainedTokenizerFast)


def write(tokenizer: Any, use: Standalone, file: Path) -> None:
    """Write `tokenizer.json`, which truncates and pads as the task does."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    made.no_truncation()
    if use.max_length is not None:
        strategy = "longest_first" if use.stride is None else "only_second"
        made.enable_truncation(
            use.max_length, stride=use.stride or 0, strategy=strategy, direction=tokenizer.truncation_side
        )
    made.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id or 0,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token or "",
    )
    made.save(str(file))


def refuse_other_tokens(tokenizer: Any, use: Standalone, file: Path, texts: Sequence[tuple[str, ...]]) -> None:
    """Raise KD532 if the written tokenizer gives other tokens for some texts than the run's.

    Args:
        tokenizer: that of the run.
        use: how the texts are read.
        file: the `tokenizer.json`.
        texts: of the rows; of each the first one or two are read, or all as words.
    """
    from tokenizers import Tokenizer

    rows = [given for row in texts[:_COMPARED] if (given := _row(row, use)) is not None]
    if not rows:
        return
    words, long = use.reads == "words", use.max_length is not None
    columns = [list(column) for column in zip(*rows, strict=True)] if use.reads == "pair" else [rows]
    expected = tokenizer(
        *columns,
        is_split_into_words=words,
        truncation=(True if use.stride is None else "only_second") if long else False,
        max_length=use.max_length,
        verbose=False,
    )["input_ids"]
    found = Tokenizer.from_file(str(file)).encode_batch(rows, is_pretokenized=words)
    for number, (mine, theirs) in enumerate(zip(expected, found, strict=True), 1):
        if mine != [token for token, kept in zip(theirs.ids, theirs.attention_mask, strict=True) if kept]:
            message = f"`tokenizer.json` alone gives other tokens than the run's tokenizer, first for row {number}"
            help_ = "no file was written; the tokenizer does something in Python that its file does not have"
            raise FindingError(Finding("KD532", message, help=help_))


def _row(row: tuple[str, ...], use: Standalone) -> Any:
    """The texts of a row as the tokenizer reads them; None if it has too few."""
    match use.reads:
        case "words":
            before = use.prompts or ("", "")
            return [f"{before[bool(place)]}{word}" for place, word in enumerate(row)] or None
        case "pair":
            return (row[0], row[1]) if len(row) > 1 else None
        case _:
            return row[0] if row else None
