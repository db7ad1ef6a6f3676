"""Token masking for masked-language-model training: selection, replacement and labels."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

IGNORE = -100
"""The label of a token that is not predicted."""
NO_WORD = -1
"""The word number of a token that is never masked: a special token."""

_MASK, _RANDOM = 0.8, 0.1


class Masking:
    """Selects and replaces tokens as in BERT's pre-training (Devlin et al. 2019, arXiv 1810.04805, section 3.1).

    Of the selected tokens 80 % become the mask token, 10 % a random token, and 10 % are unchanged; all of them are
    predicted.

    Args:
        tokenizer: provides the mask token, and the vocabulary from which random tokens are sampled.
        probability: fraction of the tokens that is selected, at least one in each row.
    """

    def __init__(self, tokenizer: Any, probability: float) -> None:
        self.mask, self.probability = tokenizer.mask_token_id, probability
        special = set(tokenizer.all_special_ids)
        self.others = [number for number in range(len(tokenizer)) if number not in special]

    def __call__(self, ids: Sequence[int], words: Sequence[int], generator: Random) -> tuple[list[int], list[int]]:
        """The input tokens, and the labels: the original token where it is predicted, -100 elsewhere.

        Adjacent tokens with the same number in `words` are selected together.
        """
        found, labels = list(ids), [IGNORE] * len(ids)
        for place in self._chosen(words, generator):
            labels[place] = found[place]
            sample = generator.random()
            if sample < _MASK:
                found[place] = self.mask
            elif sample < _MASK + _RANDOM:
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
            # a word that would exceed the number is skipped for a shorter one; the first word is always taken
            if not chosen or len(chosen) + len(group) <= number:
                chosen += group
            if len(chosen) >= number:
                break
        return sorted(chosen)


def word_of_each(text: str, lengths: Sequence[int]) -> list[int] | None:
    """The word number of each character, given the lengths of the words without spaces; a space belongs to the next word.

    None if the lengths do not add up to the text.
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
