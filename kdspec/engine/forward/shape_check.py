"""Checks shapes before training: runs two real rows through every model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdspec.api.plan.plan import TaskPlan
from kdspec.api.spec.match import DERIVED_PROJECTION, PlannedMatch
from kdspec.api.spec.spec import Spec
from kdspec.api.working.logits import Logits, as_tensor
from kdspec.api.working.step import Features
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.registry.registry import Registry

ROWS = 2

_SAME_TOKENS = "layers can be matched only if both models see the same tokens, with the same slices in field paths"


def look(runners: Mapping[str, ModelRunner], loader: Loader) -> dict[str, Features]:
    """The features of each model for the first rows; from then on models compute only what is read."""
    batches = loader.to_device(loader.batches(list(range(min(ROWS, loader.rows)))))
    features: dict[str, Features] = {}
    with isolated_random():
        for name, forward in runners.items():
            with frozen(forward.module):
                features[name] = forward.shorten(batches[name])
    return features


def settle(
    spec: Spec,
    registry: Registry,
    plan: TaskPlan,
    features: Mapping[str, Features],
    other_tokens: Collection[str] = (),
) -> tuple[PlannedMatch, ...]:
    """The stage's matches with the actual widths of the features, and derived projections where they differ.

    `other_tokens` are the teachers that read other tokens than the student.

    Raises:
        FindingError: KD302, KD309, KD313 or KD402 to KD404, all of them at once, if shapes do not fit.
    """
    found: list[Finding] = []
    settled = [_Settling(spec, registry, match, features, found, other_tokens).match() for match in plan.matches]
    found += _classes(plan, features)
    found += _masks_of_logits(spec, plan, features)
    if found:
        raise FindingError(*dict.fromkeys(found))
    return tuple(settled)


class _Settling:
    """Checks one match with its features; errors are added to `found`."""

    def __init__(
        self,
        spec: Spec,
        registry: Registry,
        match: PlannedMatch,
        features: Mapping[str, Features],
        found: list[Finding],
        other_tokens: Collection[str],
    ) -> None:
        self.spec, self.registry, self.planned, self.found = spec, registry, match, found
        self.other_tokens = match.teacher in other_tokens
        self.student = _tensors(features[match.student], match.feature, match.student_layers)
        self.teacher = _tensors(features[match.teacher], match.feature, match.teacher_layers)
        self.masks = features[match.student].heads("inputs_mask")

    def match(self) -> PlannedMatch:
        """The match with its actual widths and projections."""
        planned = self.planned
        if not self._fits():
            return planned
        self._mask()
        of_tokens = planned.loss.compares_positions and min(self.student[0].ndim, self.teacher[0].ndim) > 2
        if of_tokens and self.other_tokens:
            self._report("KD402", "their tokens differ", help=_SAME_TOKENS)
            return planned
        if planned.feature == "attention" or self.student[0].ndim == 4:
            self._attention()
            return planned
        for mine, theirs in zip(self.student, self.teacher, strict=True):
            if mine.shape[:-1] != theirs.shape[:-1] and (of_tokens or mine.shape[0] != theirs.shape[0]):
                self._report("KD402", "their lengths differ", help=_SAME_TOKENS)
                break
        return self._with_widths()

    def _fits(self) -> bool:
        planned, arity = self.planned, self.planned.loss.arity
        wrong = [value for value in (*self.student, *self.teacher) if not isinstance(value, Tensor) or value.ndim < 2]
        if not wrong and len(self.student) == arity and len(self.teacher) == arity:
            return self._fits_vectors()
        kind = _kind(wrong[0]) if wrong else f"{len(self.student)} and {len(self.teacher)} tensors"
        compares = "one tensor" if arity == 1 else f"{arity} tensors"
        message = f"`{planned.loss.name}` compares {compares} of each model; `{planned.feature}` is {kind}"
        help_ = "name the layers: `layers: {teacher: student}`"
        self.found.append(Finding("KD313", message, (*planned.path, "feature"), help=help_))
        return False

    def _fits_vectors(self) -> bool:
        """Whether vectors are one a row where the loss compares rows, and one a token where it compares tokens."""
        loss, feature = self.planned.loss, self.planned.feature
        ranks = {tensor.ndim for tensor in (*self.student, *self.teacher)}
        layer = self.student[0]
        if loss.feature == "embedding" and ranks != {2}:
            kind, help_ = "one vector a row, (batch, width)", "read the feature `embedding`, or one token's state"
        elif loss.feature == "hidden" and loss.compares_positions and not loss.vectors and 2 in ranks:
            kind, help_ = (
                "one vector a token, (batch, length, width)",
                "`cos` and `embedding_mse` compare one vector a row",
            )
        else:
            return True
        message = f"`{loss.name}` compares {kind}; `{feature}` of `{self.planned.student}` is {_shape(layer)}"
        self.found.append(Finding("KD313", message, (*self.planned.path, "feature"), help=help_))
        return False

    def _mask(self) -> None:
        """A loss gets the student's `inputs_mask`, `(batch, length)`, with features of `(batch, length, ...)`."""
        for mask in self.masks[:1]:
            layer = self.student[0]
            at = layer.shape[-1:] if layer.ndim == 4 else layer.shape[1:2]
            if layer.ndim < 3 or (isinstance(mask, Tensor) and mask.shape == (*layer.shape[:1], *at)):
                continue
            kind = _shape(mask) if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
            message = f"`inputs_mask` of `{self.planned.student}` is {kind}, `{self.planned.feature}` {_shape(layer)}"
            place = _declared(self.spec, self.planned.student, "inputs_mask", kind)
            label = Mark((*self.planned.path, "feature"), _shape(layer))
            help_ = "a mask is (batch, length), with 1 for each token of the feature and 0 for padding"
            self.found.append(Finding("KD404", message, *label, also=place, help=help_))

    def _attention(self) -> None:
        mine, theirs = self.student[0], self.teacher[0]
        if self.planned.loss.same_heads and mine.shape[1] != theirs.shape[1]:
            name = self.planned.loss.name
            self._report(
                "KD309",
                f"`{name}` compares head by head, and their numbers of heads are {mine.shape[1]} and {theirs.shape[1]}",
            )
        elif mine.shape[2:] != theirs.shape[2:]:
            self._report("KD402", "their lengths differ", help=_SAME_TOKENS)

    def _with_widths(self) -> PlannedMatch:
        planned = self.planned
        widths = [{int(tensor.shape[-1]) for tensor in side} for side in (self.student, self.teacher)]
        if planned.loss.same_width and max(map(len, widths)) > 1 and widths[0] != widths[1]:
            self._report("KD302", "the two layers of a side differ in width, so no projection fits both")
            return planned
        low, high = int(self.student[0].shape[-1]), int(self.teacher[0].shape[-1])
        projection, origin = planned.projection, planned.projection_origin
        if origin == "unknown":
            derived = planned.loss.same_width and low != high
            projection = self.registry.get("projection", DERIVED_PROJECTION)() if derived else None
            origin = "derived" if derived else "unneeded"
        if projection is None and planned.loss.same_width and low != high:
            help_ = f"remove `projection: none` to derive a linear projection {low} → {high}"
            self._report("KD302", "their widths differ, and there is no projection", "projection", help=help_)
        before = (
            planned.student_width if planned.kept is not None else low
        )  # of the vector before the layer that is kept
        return replace(
            planned, projection=projection, projection_origin=origin, student_width=before, teacher_width=high
        )

    def _report(self, code: str, what: str, key: str = "feature", help: str | None = None) -> None:  # noqa: A002 - its word
        planned = self.planned
        sides = tuple(
            f"`{planned.feature}`{_layers(layers)} of `{model}` is {_shape(tensors[0])}"
            for model, layers, tensors in (
                (planned.teacher, planned.teacher_layers, self.teacher),
                (planned.student, planned.student_layers, self.student),
            )
        )
        message = f"`{planned.feature}` of `{planned.teacher}` and of `{planned.student}` do not fit: {what}"
        self.found.append(Finding(code, message, (*planned.path, key), notes=sides, help=help))


def _kind(value: Any) -> str:
    return f"of shape {_shape(value)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _tensors(features: Features, name: str, layers: Sequence[int]) -> list[Any]:
    return [features[name][i] for i in layers] if layers else [as_tensor(head) for head in features.heads(name)]


def _layers(layers: Sequence[int]) -> str:
    return f" {', '.join(str(layer) for layer in dict.fromkeys(layers))}" if layers else ""


def _shape(value: Tensor | Logits) -> str:
    sizes = (*value.shape, value.classes) if isinstance(value, Logits) else value.shape
    return str(tuple(map(int, sizes)))


def _declared(spec: Spec, model: str, feature: str, text: str) -> tuple[Mark, ...]:
    """The place of the feature in `adaptors`; none if the task's own adaptor is used."""
    return (Mark(("adaptors", model, feature), text),) if model in spec.adaptors else ()


def _classes(plan: TaskPlan, features: Mapping[str, Features]) -> Iterator[Finding]:
    """Logits that are compared must have the same number of classes."""
    student = plan.student
    for name in plan.teachers:
        if "logits" not in plan.needs.reads.get(name, frozenset()):
            continue
        pairs = zip(features[student].heads("logits"), features[name].heads("logits"), strict=False)
        for mine, theirs in pairs:
            if not isinstance(mine, Logits) or not isinstance(theirs, Logits) or mine.classes == theirs.classes:
                continue
            sides = ((student, mine), (name, theirs))
            message = f"`{student}` has {mine.classes} classes, `{name}` {theirs.classes}"
            label = Mark(("stages", plan.stage, "distiller"), "compares their logits", key=True)
            where = tuple(Mark(("models", model), f"logits {_shape(t)}", key=True) for model, t in sides)
            help_ = "give both models the same head, or select common classes with a field path"
            yield Finding("KD403", message, *label, also=where, help=help_)


def _masks_of_logits(spec: Spec, plan: TaskPlan, features: Mapping[str, Features]) -> Iterator[Finding]:
    """A mask of logits over tokens needs one value for each token."""
    for model in plan.models:
        masks, logits = features[model].heads("logits_mask"), features[model].heads("logits")
        for mask, values in zip(masks * len(logits) if len(masks) == 1 else masks, logits, strict=False):
            if not isinstance(mask, Tensor) or not isinstance(values, Logits) or len(values.shape) < mask.ndim:
                continue
            if values.shape[: mask.ndim] != mask.shape:
                message = f"`logits_mask` of `{model}` is {_shape(mask)}, its `logits` {_shape(values)}"
                place = _declared(spec, model, "logits_mask", _shape(mask))
                label = place[0] if place else Mark(("models", model), _shape(values), key=True)
                help_ = "slice both the same way: `output.logits[:, :-1]` goes with `batch.labels[:, 1:] != -100`"
                yield Finding("KD404", message, *label, help=help_)
