"""Metrics of a model beside its teacher, for rows without labels: equal answers, divergence, and correlation of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from kdspec.api.component import Component, invalid_value
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.data.answers import error_analysis
from kdspec.data.answers.error_analysis import ComparedAnswers, Decisions

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.plan.mixture import Mixture
    from kdspec.api.working.step import Features

OutputKind = Literal["classes", "labels", "numbers"]
"""What the logits are: classes of which one is right, labels of which any number may be, or numbers."""

AGREEMENT = "agreement"
"""The metric of equal answers."""
DIVERGENCE = "kl"
"""The metric of the divergence from the teacher."""
CALIBRATION = "ece"
"""The metric of the confidence, with the teacher's answer as the right one."""
_OF_PROBABILITIES = (
    Metric(AGREEMENT),
    Metric(DIVERGENCE, higher_is_better=False),
    Metric(CALIBRATION, higher_is_better=False),
)
METRICS: Mapping[OutputKind, tuple[Metric, ...]] = MappingProxyType(
    {
        "classes": _OF_PROBABILITIES,
        "labels": _OF_PROBABILITIES,
        "numbers": (Metric("spearman"), Metric("pearson"), Metric("mse", higher_is_better=False)),
    }
)
"""The metrics, the one that selects the best student first."""


def names_beside(kind: OutputKind) -> tuple[str, ...]:
    """The names of the metrics."""
    return tuple(metric.name for metric in METRICS[kind])


def check_metric(task: Component, *, labelled: bool, other: str = DIVERGENCE) -> None:
    """Refuse the `metric` of a task without labels; called when its parameters are checked. `other` is a metric without them."""
    if not labelled and "metric" in task.model_fields_set:
        message = (
            f"`metric` needs labels; without them `training: {{evaluate: {{metric: {other}}}}}` names that of a stage"
        )
        raise invalid_value(message, "metric")


class BesideTeacher(Evaluator):
    """The outputs of a model for rows, beside those of its teacher.

    `agreement` is the share of rows with the same class, or of equal decisions of labels. `kl` is the mean KL(teacher ‖ student)
    of a row, or of a decision. `ece` is the calibration error of the model's confidence, with the teacher's answer as the right
    one. Numbers have the mean of Spearman's and of Pearson's correlation, and the mean squared error. Rows
    that a teacher has not answered do not count.

    Args:
        kind: what the logits are.
        threshold: for labels, the probability above which one is predicted.
    """

    optional = Evaluator.optional | {"answered"}
    unit = "rows"
    """What the answers are of."""

    def __init__(self, kind: OutputKind, *, threshold: float = 0.5) -> None:
        self.kind, self.limit = kind, math.log(threshold / (1 - threshold))
        self.primary, *others = METRICS[kind]
        self.others = tuple(others)

    def add(self, features: Features, batch: Batch) -> State:
        """For each row its number, its logits, and whether it has an answer."""
        import torch

        from kdspec.objectives.soft_labels import outputs

        logits = outputs(features)[0].dense().detach().float().cpu()
        return {
            "keys": torch.tensor(batch.rows)[:, None],
            "logits": logits,
            "answered": _answered(features, len(logits)),
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """None: there are no labels."""
        del states
        return {}

    def joined(self, teachers: Sequence[Sequence[State]], mixture: Mixture) -> Sequence[State]:
        """The mean of the logits or of the probabilities, of the rows that all have answered."""
        import torch

        from kdspec.ops import ensemble

        if len(teachers) == 1:
            return teachers[0]
        keys, each = _aligned(teachers)
        shares: Tensor | None = None
        if mixture.shares == "confidence":
            shares = ensemble.confidence(each)
        elif mixture.shares is not None:
            shares = torch.tensor(mixture.shares, dtype=torch.float64)
        if mixture.of == "logits" or self.kind != "classes":
            mean = ensemble.mean_logits(each, shares)
        else:
            mean = ensemble.mean_probabilities(each, shares, temperature=1.0)
        return [{"keys": keys, "logits": mean, "answered": torch.ones(len(keys), dtype=torch.bool)}]

    def beside(self, states: Sequence[State], reference: Sequence[State]) -> dict[str, float]:
        """The metrics; empty if the two have no row in common, or other classes."""
        if not states or not reference:
            return {}
        keys, (mine, theirs) = _aligned((states, reference))
        if not len(keys) or mine.shape[-1] != theirs.shape[-1]:
            return {}
        return _numbers(mine, theirs) if self.kind == "numbers" else self._probabilities(mine, theirs)

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """The classes of the model beside those of the teacher, and the rows on which the two differ most."""
        if (
            not states
            or not reference
            or any(len(names) != state["logits"].shape[-1] for state in (*states, *reference))
        ):
            return {}
        if self.kind == "labels":
            return error_analysis.differing_decisions(self._decisions(states), self._decisions(reference), names)
        mine, teachers = (self._answers(side) for side in (states, reference))
        if self.kind == "numbers":
            return error_analysis.differing(mine, teachers, (), names)
        keys, (one, other) = _aligned((states, reference))
        if not len(keys):
            return {}
        matrix = error_analysis.confusions(one.argmax(-1), other.argmax(-1), names)
        return {**matrix, **error_analysis.differing(mine, teachers, names), "against": "teacher", "unit": self.unit}

    def _answers(self, states: Sequence[State]) -> ComparedAnswers:
        """Those of a model, of which none has a label."""
        import torch

        keys, logits = _joined(states)
        if self.kind == "classes":
            parts = keys[:, 1] if keys.shape[1] > 1 else torch.zeros(len(keys), dtype=torch.long)
            sure, chosen = logits.double().softmax(-1).max(-1)
            unknown = torch.full_like(chosen, error_analysis.UNLABELLED)
            return ComparedAnswers(keys[:, 0], parts, chosen, unknown, sure)
        rows, parts = keys.expand_as(logits), torch.arange(logits.shape[1]).expand_as(logits)
        columns = (rows, parts, logits, torch.full_like(logits, math.nan))
        return ComparedAnswers(*(values.flatten() for values in columns))

    def _decisions(self, states: Sequence[State]) -> Decisions:
        """Those of a model, of which none has a label."""
        import torch

        keys, logits = _joined(states)
        given = logits > self.limit
        sure = logits.double().where(given, -logits.double()).sigmoid()
        return Decisions(keys[:, 0], given, torch.full(given.shape, error_analysis.UNLABELLED), sure)

    def _probabilities(self, mine: Tensor, theirs: Tensor) -> dict[str, float]:
        from kdspec.ops.calibration.trust import Ranked, ece
        from kdspec.ops.divergence import divergence_of_classes, divergence_of_labels

        if self.kind == "classes":
            same = mine.argmax(-1) == theirs.argmax(-1)
            divergence = divergence_of_classes(mine, theirs)
            confidence = mine.double().softmax(-1).amax(-1)
        else:
            given = mine > self.limit
            same = given == (theirs > self.limit)
            divergence = divergence_of_labels(mine, theirs)
            confidence = mine.double().where(given, -mine.double()).sigmoid()
        ranked = Ranked.of(confidence.flatten(), same.flatten())
        share, error = same.double().mean().item(), ece(ranked)
        return {AGREEMENT: share, DIVERGENCE: divergence.mean().item(), CALIBRATION: error}


class WordsBesideTeacher(BesideTeacher):
    """The tags of a model for words, beside those of its teacher: the share of words with the same tag, and KL by word.

    Words correspond by their places in the sentences, so that the two may have different tokenizers.
    """

    unit = "words"

    def __init__(self) -> None:
        super().__init__("classes")

    def add(self, features: Features, batch: Batch) -> State:
        """For each word its sentence and place, its logits, and whether it has an answer."""
        import torch

        from kdspec.objectives.soft_labels import outputs

        logits = outputs(features)[0].dense().detach().float().cpu()
        begins = batch.named["word_mask"].cpu() != 0
        words = [(row["sentence"], word) for row in batch.encoded for word in row["words"]]
        answered = _answered(features, len(logits))
        answered = answered[begins] if answered.shape == begins.shape else answered[:, None].expand_as(begins)[begins]
        keys = torch.tensor(words, dtype=torch.long).reshape(-1, 2)
        return {"keys": keys, "logits": logits[begins], "answered": answered}


class AnswersBesideTeacher(Evaluator):
    """The share of answers that a model has in common with its teacher, as an evaluator with labels compares two models.

    Several teachers are not averaged: the first one is the reference.

    Args:
        evaluator: the one with labels.
    """

    primary = Metric(AGREEMENT)

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.reads, self.optional, self.of_form = evaluator.reads, evaluator.optional, evaluator.of_form
        self.agrees_by_token = evaluator.agrees_by_token

    def add(self, features: Features, batch: Batch) -> State:
        """That of the evaluator."""
        return self.evaluator.add(features, batch)

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """None: there are no labels."""
        del states
        return {}

    def beside(self, states: Sequence[State], reference: Sequence[State]) -> dict[str, float]:
        """The agreement, if the two can be compared."""
        share = self.evaluator.agreement(states, reference)
        return {} if share is None else {AGREEMENT: share}

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """That of the evaluator."""
        return self.evaluator.error_analysis(states, reference, names)


def _answered(features: Features, rows: int) -> Tensor:
    """Whether each row, or each position of it, has an answer."""
    import torch

    masks = [mask.cpu() != 0 for mask in features.heads("answered")]
    return torch.stack(masks).all(0) if masks else torch.ones(rows, dtype=torch.bool)


def _aligned(models: Sequence[Sequence[State]]) -> tuple[Tensor, list[Tensor]]:
    """The keys that all models have answered, in order, and the logits of each model for them."""
    import torch

    both = [_joined(states) for states in models]
    place = [dict(zip(map(tuple, keys.tolist()), range(len(keys)), strict=True)) for keys, _ in both]
    common = sorted(set(place[0]).intersection(*place[1:]))
    rows = [torch.tensor([of[key] for key in common], dtype=torch.long) for of in place]
    keys = torch.tensor(common, dtype=torch.long).reshape(len(common), both[0][0].shape[-1])
    return keys, [logits[kept] for (_, logits), kept in zip(both, rows, strict=True)]


def _joined(states: Sequence[State]) -> tuple[Tensor, Tensor]:
    """The keys and the logits of all batches, where there is an answer."""
    import torch

    keys, logits, answered = (torch.cat([state[name] for state in states]) for name in ("keys", "logits", "answered"))
    return keys[answered], logits[answered]


def _numbers(mine: Tensor, theirs: Tensor) -> dict[str, float]:
    from kdspec.ops.correlation import pearson, ranks

    pairs = list(zip(mine.double().T, theirs.double().T, strict=True))
    return {
        "spearman": sum(pearson(ranks(one), ranks(other)).item() for one, other in pairs) / len(pairs),
        "pearson": sum(pearson(one, other).item() for one, other in pairs) / len(pairs),
        "mse": (mine.double() - theirs.double()).square().mean().item(),
    }
