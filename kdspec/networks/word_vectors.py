"""Word vectors in the text formats of GloVe and word2vec, as the embeddings of a tokenizer's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

_CODE = "KD502"
_HEADER = 2  # word2vec begins with the number of words and their width


def width(file: Path) -> int:
    """How many numbers a word has.

    Raises:
        Fault: KD502 where the first lines are no word vectors.
    """
    for _, _, numbers in _lines(file):
        return len(numbers)
    raise Fault(_CODE, "there are no word vectors in the file", ("vectors",))


def fill(table: Tensor, vocabulary: Mapping[str, int], file: Path) -> int:
    """Write the vectors of the tokens that are words into their rows of the table, and count them.

    A word counts as it is written and in lower case, the first of them in the file.

    Raises:
        Fault: KD502 where a line has another number of numbers than the table has columns, or no word is a token.
    """
    import torch

    seen: set[int] = set()
    for number, word, numbers in _lines(file):
        row = vocabulary.get(word, vocabulary.get(word.lower()))
        if row is None or row in seen:
            continue
        if len(numbers) != table.shape[1]:
            message = f"line {number} has {len(numbers)} numbers for `{excerpt(word)}`; the embeddings are {table.shape[1]} wide"
            raise Fault(_CODE, message, ("vectors",), help="write `embedding` as wide as the vectors are")
        try:
            table[row] = torch.tensor([float(text) for text in numbers])
        except ValueError:
            message = f"line {number} has something else than numbers behind `{excerpt(word)}`"
            raise Fault(_CODE, message, ("vectors",)) from None
        seen.add(row)
    if not seen:
        raise Fault(_CODE, "no word of the file is a token of the tokenizer", ("vectors",))
    return len(seen)


def _lines(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Number, word and numbers of each line; a header is left out."""
    try:
        with file.open(encoding="utf-8", errors="strict") as lines:
            for number, line in enumerate(lines, 1):
                word, *numbers = line.rstrip("\n ").split(" ")
                if number == 1 and len(numbers) == _HEADER - 1 and word.isdecimal():
                    continue
                if numbers:
                    yield number, word, numbers
    except UnicodeDecodeError:
        raise Fault(
            _CODE, "the word vectors are not UTF-8 text", ("vectors",), help="binary files are not read"
        ) from None
