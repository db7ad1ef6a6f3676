"""Logits of tokens as the tags of words, for predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.evaluator import State
from kdspec.api.working.row_answers import RowAnswers
from kdspec.data import confidence
from kdspec.data.answers.class_answers import classes, logits_of
from kdspec.data.labels.word_tags import NO_TAG

if TYPE_CHECKING:
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features


class TagAnswers(RowAnswers):
    """For each word of a sentence its tag, the probability of that, and the logits of all tags: lists with one entry a word.

    A word without a token, as one behind the limit of a sentence that is cut, has null.

    Args:
        names: the tags in the order of the logits.
        words: the number of words of each sentence.
    """

    def __init__(self, names: Sequence[str], words: Sequence[int]) -> None:
        self.names, self.words = names, words

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[dict[str, Any]]:
        """One sentence after another; those of several rows are put together."""
        columns = self.written(probabilities=probabilities)
        found: dict[int, Mapping[str, Any]] = {}
        sentence = 0
        for features, batch in batches:
            begins = batch.inputs[""]["word_mask"] != 0
            words = [(row["sentence"], word) for row in batch.encoded for word in row["words"]]
            made = classes(logits_of(features)[begins], self.names, probabilities=probabilities)
            for (number, word), answer in zip(words, made, strict=True):
                while number > sentence:
                    yield self._sentence(sentence, found, columns)
                    found, sentence = {}, sentence + 1
                found[word] = answer
        for number in range(sentence, len(self.words)):
            yield self._sentence(number, found if number == sentence else {}, columns)

    def _sentence(self, number: int, found: Mapping[int, Mapping[str, Any]], columns: Sequence[str]) -> dict[str, Any]:
        every = [found.get(word, {}) for word in range(self.words[number])]
        return {name: [answer.get(name) for answer in every] for name in columns}


def labelled_words(states: Sequence[State]) -> confidence.LabelledAnswers:
    """The answers for words with a tag, of the states of an evaluation; a teacher is asked for all words of a sentence."""
    import torch

    words, tags, truth, sure = (
        torch.cat([state[name] for state in states]) for name in ("words", "tags", "truth", "confidence")
    )
    known = truth != NO_TAG
    longest = int(words[:, 1].max()) + 1 if len(words) else 1
    keys = words[:, 0] * max(longest, LONGEST_ROW) + words[:, 1]
    return confidence.LabelledAnswers(keys[known], words[known, 0], sure[known], (tags == truth)[known])
