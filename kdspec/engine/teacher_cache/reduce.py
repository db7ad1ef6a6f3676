"""Replaces layers of a teacher by the smaller values that its losses read from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Features
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.objectives.reductions import Reduced
from kdspec.ops.features import first_token, similarity


class Reducing:
    """Wraps a teacher's `ModelRunner`; its features have reductions in place of the reduced layers.

    Args:
        forward: the teacher.
        reduced: the reductions that suffice for the losses.
        mask: which tokens are not padding.
    """

    def __init__(self, forward: ModelRunner, reduced: Sequence[Reduced], mask: Feature | None) -> None:
        self.forward, self.reduced, self.mask = forward, tuple(reduced), mask
        self.name, self.module, self.inputs = forward.name, forward.module, forward.inputs
        # A layer is dropped only if every loss that reads it is served by a reduction, which `reductions` has checked.
        gone = {(each.feature, layer) for each in reduced for layer in each.layers}
        self.features: dict[str, Feature] = {}
        for name, feature in forward.features.items():
            left = None if feature.layers is None else tuple(i for i in feature.layers if (name, i) not in gone)
            if left != ():
                self.features[name] = replace(feature, layers=left)
        for each in reduced:
            self.features[each.name] = replace(forward.features[each.feature], name=each.name, layers=None)

    def __call__(self, batch: Batch) -> Features:
        """The features of one batch, as a cache stores them."""
        found = self.forward(batch)
        values: dict[str, Any] = {}
        for name, feature in self.features.items():
            if name in found:
                value = found[name]
                layers = feature.layers
                values[name] = value if layers is None else {i: value[i] for i in layers}
        mask = None if self.mask is None else self.mask.paths[0].evaluate(batch=batch.named)
        return Features(values | {each.name: _of(each, found, mask) for each in self.reduced})

    def of_batch(self, batch: Batch, names: Iterable[str]) -> Mapping[str, Any]:
        """As for the teacher."""
        return self.forward.of_batch(batch, names)


def _of(reduced: Reduced, features: Features, mask: Tensor | None) -> Tensor:
    layers = [features.layer(reduced.feature, index) for index in reduced.layers]
    if reduced.reduction == "first":
        return first_token(layers[0], mask)
    return similarity((layers[0], layers[-1]))
