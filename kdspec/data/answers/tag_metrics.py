"""Metrics of the tags that a model gives to words, and of the entities that they mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.step import Features
from kdspec.data import confidence, tag_schemes
from kdspec.data.answers import error_analysis
from kdspec.data.answers.error_analysis import ComparedAnswers, Counts

_IGNORE = -100


class TagMetrics(Evaluator):
    """The share of words with the correct tag and, for entities, precision, recall and F1 over the whole split.

    An entity is correct if its type, its first word and its last word are. How far the confidence in tags can be trusted is
    that of the words with a tag that the model has read; of truncated words it has none.

    Args:
        metric: the one that selects the best student.
        names: the names of the tags.
        tags: the tags of each sentence of the split; None for an unlabelled sentence.
        entities: whether the tags mark entities.
    """

    others = tuple(confidence.METRICS.values())

    def __init__(
        self, metric: str, names: Sequence[str], tags: Sequence[Sequence[int] | None], *, entities: bool
    ) -> None:
        self.primary, self.names, self.tags, self.entities = confidence.metric(metric), names, tags, entities
        self.agrees_on = "F1 between the entities of both" if entities else "words with the same tag"

    def add(self, features: Features, batch: Batch) -> State:
        """The predicted tag of each word with its confidence, the right one, and the sentences of the rows."""
        import torch

        from kdspec.objectives.soft_labels import outputs

        logits = outputs(features)[0].dense().float().cpu()[batch.named["word_mask"].cpu() != 0]
        words = [(row["sentence"], word) for row in batch.encoded for word in row["words"]]
        places = torch.tensor(words, dtype=torch.long).reshape(-1, 2)
        sentences = torch.tensor([row["sentence"] for row in batch.encoded])
        tags = ((self.tags[sentence], word) for sentence, word in words)
        truth = torch.tensor([_IGNORE if of is None else of[word] for of, word in tags], dtype=torch.long)
        return {
            "sentences": sentences, "words": places, "tags": logits.argmax(-1), "truth": truth,
            **confidence.of_classes(logits, truth),
        }  # fmt: skip

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no sentence has tags."""
        words = right = common = 0
        counts = [0, 0]
        for sentence, found in self._predicted(states).items():
            numbers = self.tags[sentence]
            if numbers is None:
                continue
            truth = [self.names[number] for number in numbers if number != _IGNORE]
            words += len(truth)
            right += sum(found.get(word) == tag for word, tag in zip(_counting(numbers), truth, strict=True))
            mine = set(tag_schemes.spans_of(found, _counting(numbers)))
            true = set(tag_schemes.spans(truth))
            common += len(mine & true)
            counts = [counts[0] + len(mine), counts[1] + len(true)]
        if not words:
            return {}
        of_words = {"accuracy": right / words, **self._of_confidence(states)}
        if not self.entities:
            return of_words
        precision, recall = (common / count if count else 0.0 for count in counts)
        f1 = 2 * common / sum(counts) if sum(counts) else 0.0
        return {"f1": f1, "precision": precision, "recall": recall, **of_words}

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """F1 of the predicted entities against the other model's, or the share of words with the same tag.

        Of the sentences with tags, or of all if none has any. Most words are outside of entities, so that a share of words
        would be high for a model that finds none.
        """
        mine, theirs = self._predicted(states), self._predicted(reference)
        sentences = [sentence for sentence in mine if self.tags[sentence] is not None] or list(mine)
        if self.entities:
            sides = [
                {
                    (n, *span)
                    for n in sentences
                    for span in tag_schemes.spans_of(side.get(n, {}), _counting(self.tags[n], side.get(n, {})))
                }
                for side in (mine, theirs)
            ]
            both = sum(map(len, sides))
            return 2 * len(sides[0] & sides[1]) / both if both else None
        words = [(n, word) for n in sentences for word in mine[n].keys() | theirs.get(n, {}).keys()]
        same = sum(mine[n].get(word) == theirs.get(n, {}).get(word) for n, word in words)
        return same / len(words) if words else None

    def reliability(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, Any]:
        """Of the words with a tag; a teacher is asked for all words of a sentence."""
        return confidence.reliability(_answers(states), _answers(reference) if reference else None)

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """Of the words with a tag that the model has read; the scores of entities are by their type, over all sentences with tags."""
        if list(names) != list(self.names):
            return {}
        teachers = _tags_of(reference) if reference else None
        found = {**error_analysis.of_classes(_tags_of(states), teachers, names), "unit": "words"}
        if not self.entities or "classes" not in found:
            return found
        theirs = self._entity_counts(reference) if reference else None
        return {**found, **error_analysis.class_scores(self._entity_counts(states), theirs), "entities": True}

    def _entity_counts(self, states: Sequence[State]) -> dict[str, Counts]:
        """By the type of the entities, in the order of the tags."""
        found = {part[1]: [0, 0, 0] for part in map(tag_schemes.parts, self.names) if part is not None and part[1]}
        for sentence, tags in self._predicted(states).items():
            numbers = self.tags[sentence]
            if numbers is None:
                continue
            words = _counting(numbers)
            mine = set(tag_schemes.spans_of(tags, words))
            true = set(tag_schemes.spans([self.names[numbers[word]] for word in words]))
            for column, spans in enumerate((mine & true, mine, true)):
                for kind, _, _ in spans:
                    found.setdefault(kind, [0, 0, 0])[column] += 1
        return {kind: Counts(*counts) for kind, counts in found.items()}

    def _of_confidence(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no word with a tag has been read."""
        import torch

        truth, tags = (torch.cat([state[name] for state in states]) for name in ("truth", "tags"))
        known = truth != _IGNORE
        if not known.any():
            return {}
        sure, brier, nll = (confidence.joined(states, name, known) for name in ("confidence", "brier", "nll"))
        return confidence.metrics(sure, (tags == truth)[known], brier.mean().item(), nll.mean().item())

    def _predicted(self, states: Sequence[State]) -> dict[int, dict[int, str]]:
        """The tags by sentence and word; words without a token have none."""
        predicted: dict[int, dict[int, str]] = {}
        for state in states:
            for sentence in state["sentences"].tolist():
                predicted.setdefault(sentence, {})
            for (sentence, word), tag in zip(state["words"].tolist(), state["tags"].tolist(), strict=True):
                predicted[sentence][word] = self.names[tag]
        return predicted


def _answers(states: Sequence[State]) -> confidence.LabelledAnswers:
    import torch

    words, tags, truth, sure = (
        torch.cat([state[name] for state in states]) for name in ("words", "tags", "truth", "confidence")
    )
    known = truth != _IGNORE
    longest = int(words[:, 1].max()) + 1 if len(words) else 1
    keys = words[:, 0] * max(longest, LONGEST_ROW) + words[:, 1]
    return confidence.LabelledAnswers(keys[known], words[known, 0], sure[known], (tags == truth)[known])


def _tags_of(states: Sequence[State]) -> ComparedAnswers:
    import torch

    words, tags, truth, sure = (
        torch.cat([state[name] for state in states]) for name in ("words", "tags", "truth", "confidence")
    )
    return ComparedAnswers(words[:, 0], words[:, 1], tags, truth, sure)


def _counting(numbers: Sequence[int] | None, tags: Mapping[int, str] | None = None) -> list[int]:
    """The words with a tag; of a sentence without any all words, as far as there are `tags`."""
    if numbers is None:
        return list(range(max(tags or (), default=-1) + 1))
    return [word for word, number in enumerate(numbers) if number != _IGNORE]
