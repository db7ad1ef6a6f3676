"""How the outputs of a model for a whole split become metrics: batch by batch, as a fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.batch import Batch
    from kdspec.api.step import Features

State = Mapping[str, "Tensor"]
"""What of one batch the metrics need, by name: small tensors, such as the class chosen for each row."""


@dataclass(frozen=True)
class Metric:
    """A number that tells how good a model is."""

    name: str
    higher_is_better: bool = True


LOSS = Metric("loss", higher_is_better=False)
"""The hard loss over the labels of a split, which the engine computes."""


class Evaluator(ABC):
    """A fold over the batches of a split. The engine moves the states between processes and keeps nothing else."""

    reads: frozenset[str] = frozenset({"logits"})
    """The features that it cannot do without."""
    optional: frozenset[str] = frozenset({"labels", "logits_mask"})
    """The features that it reads where the adaptor of a model has them."""
    primary: Metric = LOSS
    """The metric by which the best student is chosen."""
    others: tuple[Metric, ...] = ()
    """The other metrics that it may give; needed for those of which less is better."""
    gives_loss: bool = False
    """Whether `loss` is among its metrics, so that the engine computes none."""

    @abstractmethod
    def add(self, features: Features, batch: Batch) -> State:
        """The state of one batch; empty where nothing of it counts.

        Args:
            features: of the model, on its device.
            batch: the rows as the model was given them, on the device too.
        """

    @abstractmethod
    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The metrics of all batches, from their states in order; empty where no row counts."""

    def metric(self, name: str) -> Metric:
        """One of the metrics by its name; more is better where it is not told."""
        known = {metric.name: metric for metric in (LOSS, *self.others, self.primary)}
        return known.get(name, Metric(name))


class LossAlone(Evaluator):
    """For a task without metrics: its models are judged by the hard loss, which the engine computes."""

    def add(self, features: Features, batch: Batch) -> State:
        """Nothing."""
        del features, batch
        return {}

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """None."""
        del states
        return {}
