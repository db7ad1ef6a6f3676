"""What a language model is asked of each row, and the answers among which it chooses."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations

from kdspec.data.prompted.template import OPTIONS, Template

ALL_ORDERS = 4
"""Number of options up to which each order of them is asked; of more, each option comes once at each place."""
MOST_LISTED = len(string.ascii_uppercase)
"""Number of options that can be listed: one for each letter."""


@dataclass(frozen=True)
class ClassQuestion:
    """A prompt with its answers."""

    template: Template
    classes: tuple[str, ...]
    """The names of the classes, in the order of the logits."""
    texts: tuple[str, ...]
    """For each class the text of its option."""
    orders: tuple[tuple[int, ...], ...]
    """The orders in which the options are listed: at each place a class."""
    chat: bool = False
    """Whether the prompt is what a user says, in the chat template of the tokenizer."""

    def prompt(self, values: Mapping[str, str], order: Sequence[int]) -> str:
        """The prompt of a row, with the texts of its columns, and the options in one of the orders."""
        if not self.template.lists_options:
            return self.template.filled(values)
        listed = (
            f"{letter}. {self.texts[number]}" for letter, number in zip(string.ascii_uppercase, order, strict=False)
        )
        return self.template.filled({**values, OPTIONS: "\n".join(listed)})

    def answers(self, order: Sequence[int]) -> list[str]:
        """For each class what the model says for it: its letter, or where no options are listed its text."""
        if not self.template.lists_options:
            return list(self.texts)
        return [string.ascii_uppercase[order.index(number)] for number in range(len(self.texts))]

    @property
    def digest(self) -> str:
        """A checksum of all of it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def orders(names: Sequence[str], listed: Sequence[str], *, permute: bool) -> tuple[tuple[int, ...], ...]:
    """The orders in which options are listed; at each place the number of a class.

    Permuted, all orders of up to 4 options, and of more each shift of their order by name, which has each option once at
    each place. So the order in which a spec names them does not matter.

    Args:
        names: the classes, in the order of the logits.
        listed: the same in the order in which the spec names them.
        permute: whether they are permuted.
    """
    if not permute:
        return (tuple(names.index(name) for name in listed),)
    by_name = sorted(range(len(names)), key=names.__getitem__)
    if len(names) <= ALL_ORDERS:
        return tuple(permutations(by_name))
    return tuple((*by_name[shift:], *by_name[:shift]) for shift in range(len(names)))


def joined(prompt: str, answer: str) -> str:
    """The prompt with an answer: behind a blank, as words are, unless one of them has a blank there or the script has none."""
    blank = prompt[-1:].isascii() and not prompt[-1:].isspace() and not answer[:1].isspace()
    return f"{prompt} {answer}" if blank else f"{prompt}{answer}"
