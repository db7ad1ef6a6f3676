"""Labels and their loss, head by head, for our tasks and others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from kdspec.api.batch import Batch
from kdspec.api.step import Features
from kdspec.diagnostics.fault import Fault
from kdspec.objectives.labelled_positions import loss_of_labels
from kdspec.objectives.soft_labels import outputs
from kdspec.ops.mean import Mean

ONE: Mapping[str, str] = MappingProxyType({"labels": "labels"})
"""One head, whose labels are the target `labels`."""


def labels(features: Features, batch: Batch, keys: Mapping[str, str] = ONE) -> tuple[Tensor, ...]:
    """The labels by head: as the model's adaptor finds them, else the targets of these keys.

    A teacher learns from no labels, so that its adaptor may have none.

    Args:
        features: of the model.
        batch: its rows.
        keys: the targets by the name of the head.
    """
    return features.heads("labels") or tuple(batch.targets[key] for key in keys.values() if key in batch.targets)


def by_head(
    features: Features, batch: Batch, loss: Callable[[Tensor, Tensor], Mean], keys: Mapping[str, str] = ONE
) -> dict[str, Mean]:
    """The loss of the logits of each head against its labels, by the name of the head.

    Args:
        features: of the model.
        batch: its rows.
        loss: of logits and labels in one tensor each; takes each position by itself.
        keys: the targets by the name of the head; heads have numbers for names where there are more of them, or fewer.

    Raises:
        Fault: KD313 where there are more heads of logits than of labels, or fewer.
    """
    logits, right = outputs(features), labels(features, batch, keys)
    if len(logits) != len(right):
        raise Fault("KD313", f"{len(logits)} heads of logits but {len(right)} of labels")
    names = list(keys) if len(keys) == len(logits) else [str(number) for number in range(len(logits))]
    heads = zip(names, logits, right, strict=True)
    return {name: loss_of_labels(said, truth, loss) for name, said, truth in heads}
