"""Evaluators: metrics of a model's outputs for a whole split, computed batch by batch as a fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.plan.mixture import Mixture
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features

State = Mapping[str, "Tensor"]
"""The data of one batch that the metrics need, by name: small tensors, such as the class predicted for each row."""


@dataclass(frozen=True)
class Metric:
    """A number that measures a model."""

    name: str
    higher_is_better: bool = True


LOSS = Metric("loss", higher_is_better=False)
"""The hard loss over the labels of a split, which the engine computes."""


class Evaluator(ABC):
    """A fold over the batches of a split. The engine moves the states between processes and keeps nothing else."""

    reads: frozenset[str] = frozenset({"logits"})
    """The features that it requires."""
    optional: frozenset[str] = frozenset({"labels", "logits_mask"})
    """The features that it reads if the adaptor of a model has them."""
    of_form: Mapping[str, frozenset[str]] = MappingProxyType({})
    """The features that it reads of models with a reader of this form, if their adaptor has them."""
    primary: Metric = LOSS
    """The metric that selects the best student."""
    others: tuple[Metric, ...] = ()
    """The other metrics that it may return. Metrics for which lower is better must be listed."""
    gives_loss: bool = False
    """Whether `loss` is among its metrics, so that the engine does not compute it."""
    agrees_on: str | None = None
    """What `agreement` counts, as the caption of the table has it: `rows with the same class`. None: the answers of two
    models are not compared."""
    agrees_by_token: bool = False
    """Whether it compares answers for tokens, so that only models with the same tokenizer are compared."""

    @abstractmethod
    def add(self, features: Features, batch: Batch) -> State:
        """The state of one batch; empty if no row of it enters the metrics or the agreement.

        Args:
            features: of the model, on its device.
            batch: the batch that the model was given, on the same device.
        """

    @abstractmethod
    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The metrics of all batches, from their states in order; empty if no row enters the metrics."""

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of answers that two models have in common, from 0 to 1; None if they cannot be compared.

        Args:
            states: of a model, for all batches of a split.
            reference: of another model, for the same rows in batches of its own.
        """
        del states, reference
        return None

    def beside(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, float]:
        """Metrics of a model beside the reference model of the table, such as a search of one in vectors of the other.

        Args:
            states: of a model, for all batches of a split.
            reference: of its teacher, for the same rows in batches of its own.
        """
        del states, reference
        return {}

    def joined(self, teachers: Sequence[Sequence[State]], mixture: Mixture) -> Sequence[State]:
        """The states of several teachers as those of one, the reference of `beside`; by default those of the first one.

        Args:
            teachers: for each teacher the states of all batches of a split.
            mixture: how the strategy averages them.
        """
        del mixture
        return teachers[0]

    def reliability(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, Any]:
        """How far the confidence in answers can be trusted, as `kdspec.data.confidence.reliability` gives it; empty: not known.

        Args:
            states: of a model, for all batches of a split.
            reference: of its teacher, for the same rows; empty without one.
        """
        del states, reference
        return {}

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """Where the answers are wrong or differ from a teacher's, as `kdspec.data.answers.error_analysis` gives it; empty: not known.

        It is asked once for each model, for the table at the end of a run. `kdspec.data.answers.differing_texts` helps where
        answers are texts, orders or similarities.

        Args:
            states: of a model, for all batches of a split.
            reference: of its teacher, for the same rows; empty without one.
            names: the classes, labels or columns of the task, in the order of the logits.
        """
        del states, reference, names
        return {}

    def metric(self, name: str) -> Metric:
        """One of the metrics by its name. For a metric that is not listed, higher is better."""
        known = {metric.name: metric for metric in (LOSS, *self.others, self.primary)}
        return known.get(name, Metric(name))


class LossAlone(Evaluator):
    """For a task without metrics: its models are evaluated by the hard loss, which the engine computes."""

    def add(self, features: Features, batch: Batch) -> State:
        """Nothing."""
        del features, batch
        return {}

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """None."""
        del states
        return {}
