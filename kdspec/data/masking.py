"""Masked tokens: which tokens of a row a model has to guess, and what stands in their place."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

IGNORE = -100
"""The label of a token that is not to be predicted."""
NO_WORD = -1
"""The word of a token that is never masked: of the tokenizer's own marks."""

_MASK, _RANDOM = 0.8, 0.1


class Masking:
    """Chooses and replaces tokens as BERT's pre-training does (Devlin et al. 2019, arXiv 1810.04805, section 3.1).

    Of the chosen tokens 80 % become the mask, 10 % another token and 10 % stay; all of them are to be guessed.

    Args:
        tokenizer: has the mask token, and the vocabulary from which other tokens are drawn.
        probability: the part of the tokens that is chosen, at least one in each row.
    """

    def __init__(self, tokenizer: Any, probability: float) -> None:
        self.mask, self.probability = tokenizer.mask_token_id, probability
        special = set(tokenizer.all_special_ids)
        self.others = [number for number in range(len(tokenizer)) if number not in special]

    def __call__(self, ids: Sequence[int], words: Sequence[int], generator: Random) -> tuple[list[int], list[int]]:
        """The tokens as the model sees them, and the labels: what it has to guess, -100 elsewhere.

        Tokens that stand side by side and have the same number in `words` are chosen together or not at all.
        """
        found, labels = list(ids), [IGNORE] * len(ids)
        for place in self._chosen(words, generator):
            labels[place] = found[place]
            drawn = generator.random()
            if drawn < _MASK:
                found[place] = self.mask
            elif drawn < _MASK + _RANDOM:
                found[place] = self.others[generator.randrange(len(self.others))]
        return found, labels

    def _chosen(self, words: Sequence[int], generator: Random) -> list[int]:
        groups: list[list[int]] = []
        for place, word in enumerate(words):
            if word == NO_WORD:
                continue
            if groups and groups[-1][-1] == place - 1 and words[place - 1] == word:
                groups[-1].append(place)
            else:
                groups.append([place])
        generator.shuffle(groups)
        number = max(1, round(self.probability * sum(map(len, groups))))
        chosen: list[int] = []
        for group in groups:
            # a word that would be too much is passed over for a shorter one, but some word there must be
            if not chosen or len(chosen) + len(group) <= number:
                chosen += group
            if len(chosen) >= number:
                break
        return sorted(chosen)


def word_of_each(text: str, lengths: Sequence[int]) -> list[int] | None:
    """The word of each character of a text whose words have these lengths; spaces count in none and belong to the next.

    None where the lengths are not those of the text.
    """
    ends = [word for word, length in enumerate(lengths) for _ in range(length)]
    letters = sum(not letter.isspace() for letter in text)
    if letters != len(ends):
        return None
    found, passed = [], 0
    for letter in text:
        found.append(ends[min(passed, letters - 1)] if letters else 0)
        passed += not letter.isspace()
    return found
