"""Labels and hard loss of each head, for the built-in tasks and those of plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Features
from kdspec.diagnostics.fault import Fault
from kdspec.objectives.labelled_positions import loss_of_labels
from kdspec.objectives.soft_labels import outputs
from kdspec.ops.mean import Mean

ONE: Mapping[str, str] = MappingProxyType({"labels": "labels"})
"""One head, with the target `labels`."""


def labels(features: Features, batch: Batch, keys: Mapping[str, str] = ONE) -> tuple[Tensor, ...]:
    """The labels by head: the feature `labels` if the model's adaptor has it, else the targets of these keys.

    The adaptor of a teacher may have no `labels`, since teachers are not trained.

    Args:
        features: of the model.
        batch: the model's batch.
        keys: the targets by the name of the head.
    """
    return features.heads("labels") or tuple(batch.targets[key] for key in keys.values() if key in batch.targets)


def by_head(
    features: Features, batch: Batch, loss: Callable[[Tensor, Tensor], Mean], keys: Mapping[str, str] = ONE
) -> dict[str, Mean]:
    """The loss of the logits of each head against its labels, by the name of the head.

    Args:
        features: of the model.
        batch: the model's batch.
        loss: a loss of the scope `position`, of a tensor of logits and one of labels.
        keys: the targets by the name of the head. If the number of heads differs, their names are numbers.

    Raises:
        Fault: KD313 if the numbers of heads of logits and of labels differ.
    """
    logits, right = outputs(features), labels(features, batch, keys)
    if len(logits) != len(right):
        raise Fault("KD313", f"{len(logits)} heads of logits but {len(right)} of labels")
    names = list(keys) if len(keys) == len(logits) else [str(number) for number in range(len(logits))]
    heads = zip(names, logits, right, strict=True)
    return {name: loss_of_labels(predicted, truth, loss) for name, predicted, truth in heads}
