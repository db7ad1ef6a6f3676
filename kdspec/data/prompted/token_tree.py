"""Sequences of tokens as one tree, in which what several of them begin with stands once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class TokenTree:
    """Tokens in the order of a walk through the tree: a token is seen by those behind it, up to its end.

    Token i is before token j in a sequence where `i <= j < ends[i]`.
    """

    tokens: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    places: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    """For each sequence the place of each of its tokens."""

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> TokenTree:
        """The tree of some sequences, which does not depend on their order."""
        tree, path, before = cls(), list[int](), tuple[int, ...]()
        for sequence in sorted({tuple(each) for each in sequences}):
            shared = common(before, sequence)
            tree._close(path, shared)
            for token in sequence[shared:]:
                path.append(len(tree.tokens))
                tree.tokens.append(token)
                tree.ends.append(0)
            tree.places[sequence] = tuple(path)
            before = sequence
        tree._close(path, 0)
        return tree

    def _close(self, path: list[int], shared: int) -> None:
        for place in path[shared:]:
            self.ends[place] = len(self.tokens)
        del path[shared:]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens with which both begin."""
    return next(
        (n for n, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs),
        min(len(one), len(other)),
    )


def told_apart(sequences: Sequence[Sequence[int]]) -> tuple[int, list[int] | None]:
    """The number of tokens that all sequences begin with, and how many of each distinguish it from the others.

    None in place of these where one sequence begins another.
    """
    shared = min(common(sequences[0], each) for each in sequences)
    needed = []
    for number, sequence in enumerate(sequences):
        others = (each for place, each in enumerate(sequences) if place != number)
        needed.append(1 + max(common(sequence, other) for other in others))
    whole = all(depth <= len(sequence) for depth, sequence in zip(needed, sequences, strict=True))
    return shared, needed if whole else None
