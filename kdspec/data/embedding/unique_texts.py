"""The distinct texts of a split: each is encoded and embedded once, however many rows and sets have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.evaluator import State
    from kdspec.api.working.task import Reader


class UniqueTexts:
    """Texts with the names of their prompts, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str | None], int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, texts: Iterable[str], prompt: str | None = None) -> list[int]:
        """The numbers of these texts; those that are new are added.

        Args:
            texts: the texts.
            prompt: the name of the prompt with which models read them; None for none.
        """
        return [self._numbers.setdefault((text, prompt), len(self._numbers)) for text in texts]

    @property
    def texts(self) -> list[str]:
        """The texts by number."""
        return [text for text, _ in self._numbers]

    @property
    def prompts(self) -> list[str | None]:
        """The name of the prompt of each text, by number."""
        return [prompt for _, prompt in self._numbers]


def prompted(text: str, prompt: str | None, reader: Reader) -> str:
    """A text as a model reads it: after its prompt of this name, or else after that for any text."""
    return f"{reader.prompts.get(prompt or '', reader.prompts.get('', ''))}{text}"


@dataclass(frozen=True)
class Vectors:
    """The vectors of a model for the texts of a split."""

    table: Tensor
    """`(texts, width)`, float32; NaN for a text without a vector."""
    known: Tensor
    """Whether there is a vector for each text, `(texts,)`: a look at a model may ask for a few."""

    @classmethod
    def of(cls, states: Sequence[State], texts: int) -> Vectors:
        """Those of the states of an evaluation.

        Args:
            states: each with `rows`, the numbers of its texts, and `embedding`, `(rows, width)`.
            texts: the number of all texts of the split.
        """
        import torch

        width = states[0]["embedding"].shape[-1] if states else 1
        table, known = torch.full((texts, width), torch.nan), torch.zeros(texts, dtype=torch.bool)
        for state in states:
            table[state["rows"]], known[state["rows"]] = state["embedding"], True
        return cls(table, known)
