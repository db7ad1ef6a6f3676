"""Word vectors in the text formats of GloVe and word2vec, as embeddings of a tokenizer's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

_CODE = "KD502"
_HEADER = 2  # word2vec begins with the number of words and their width


def width(file: Path) -> int:
    """The width of the vectors.

    Raises:
        Fault: KD502 if the first lines are not word vectors.
    """
    for _, _, numbers in _lines(file):
        return len(numbers)
    raise Fault(_CODE, "the file has no word vectors", ("vectors",))


def fill(table: Tensor, vocabulary: Mapping[str, int], file: Path) -> int:
    """Write the vectors of tokens that are words into their rows of the table, and return their number.

    A word matches a token as it is written or in lower case; the first match in the file is used.

    Raises:
        Fault: KD502 if a line does not have as many numbers as the table has columns, or no word is a token.
    """
    import torch

    seen: set[int] = set()
    for number, word, numbers in _lines(file):
        row = vocabulary.get(word, vocabulary.get(word.lower()))
        if row is None or row in seen:
            continue
        if len(numbers) != table.shape[1]:
            message = f"line {number} has {len(numbers)} numbers; the embeddings are {table.shape[1]} wide"
            raise Fault(_CODE, message, ("vectors",), help="set `embedding` to the width of the vectors")
        try:
            table[row] = torch.tensor([float(text) for text in numbers])
        except ValueError:
            message = f"line {number} has a value that is not a number"
            raise Fault(_CODE, message, ("vectors",)) from None
        seen.add(row)
    if not seen:
        raise Fault(_CODE, "no word of the file is a token of the tokenizer", ("vectors",))
    return len(seen)


def _lines(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, word and values of each line, without the header."""
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
            _CODE, "the word vectors are not UTF-8 text", ("vectors",), help="binary files are not supported"
        ) from None
