"""The pairs of layers that a match compares, written or from a layer map, with each index checked against its model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import LayerMap
from kdspec.api.kinds.losses import FeatureLoss
from kdspec.api.kinds.model import ModelFacts
from kdspec.api.spec.match import Match, Pair
from kdspec.api.spec.spec_source import SpecSource
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import TRACEBACK, Finding, SpecPath
from kdspec.planning.layer_counts import ATTENTION, count


class Compared(NamedTuple):
    """A match of one feature, with its loss and models."""

    match: Match
    feature: str
    loss: FeatureLoss
    teacher: str
    student: str
    path: SpecPath
    """The path of the match in the spec."""


class LayerSelection(NamedTuple):
    """Matched layers, counted from 0; empty if a feature is compared as a whole."""

    teacher: tuple[int, ...]
    student: tuple[int, ...]
    at: SpecPath
    """The path of the pair, or of the layer map, in the spec."""


class Pairing:
    """Finds the layers of matches.

    Args:
        source: the spec as written.
        facts: the facts of each model.
        paths: for each model the field paths of its features.
        faulty: models with errors that are already reported.
    """

    def __init__(
        self,
        source: SpecSource,
        facts: Mapping[str, ModelFacts],
        paths: Mapping[str, Mapping[str, Any]],
        faulty: Collection[str],
    ) -> None:
        self.source, self.facts, self.paths, self.faulty = source, facts, paths, faulty

    def layers(self, compared: Compared) -> Iterator[LayerSelection | Finding]:
        """The pairs of one match, or the errors in them."""
        match, path = compared.match, compared.path
        if match.pairs is not None:
            for index, pair in enumerate(match.pairs):
                yield from self._written(compared, pair, (*path, "pairs", index))
        elif match.layers is not None:
            yield from self._one_layer_each(compared, match.layers)
        else:
            yield LayerSelection((), (), path)

    def _one_layer_each(self, compared: Compared, layers: LayerMap) -> Iterator[LayerSelection | Finding]:
        """The pairs of a layer map; for a two-layer loss each layer is paired with itself."""
        at = (*compared.path, "layers")
        mapped = self._mapped(compared, layers, at)
        if isinstance(mapped, Finding):
            yield mapped
            return
        for high, low in mapped:
            short, long = (*at, high), (*at, layers.name, "pairs", high)
            where = next((one for one in (short, long) if self.source.has(one)), at)
            teacher = self._index(compared.teacher, compared.feature, high, where, key=True)
            student = self._index(compared.student, compared.feature, low, where, key=False)
            if isinstance(teacher, int) and isinstance(student, int):
                arity = compared.loss.arity
                yield LayerSelection((teacher,) * arity, (student,) * arity, where)
            yield from (side for side in (teacher, student) if isinstance(side, Finding))

    def _written(self, compared: Compared, pair: Pair, path: SpecPath) -> Iterator[LayerSelection | Finding]:
        sides: list[tuple[int, ...]] = []
        for side, model in (("teacher", compared.teacher), ("student", compared.student)):
            written: Sequence[int] = getattr(pair, side)
            if len(written) != compared.loss.arity:
                yield _wrong_number(compared.loss, len(written), (*path, side))
                return
            found = [self._index(model, compared.feature, index, (*path, side), key=False) for index in written]
            yield from (index for index in found if isinstance(index, Finding))
            sides.append(tuple(index for index in found if isinstance(index, int)))
        if all(len(side) == compared.loss.arity for side in sides):
            yield LayerSelection(sides[0], sides[1], path[:-1])

    def _mapped(self, compared: Compared, mapping: LayerMap, path: SpecPath) -> Sequence[tuple[int, int]] | Finding:
        feature = compared.feature
        models = (compared.teacher, compared.student)
        layers = [self.facts[model].layers for model in models]
        if not mapping.as_written and None in layers:
            if any(model in self.faulty for model in models):
                return ()  # the error in the model is already reported
            message = f"`{mapping.name}` needs the number of layers of `{models[layers.index(None)]}`, which is unknown"
            return Finding("KD301", message, path, help="write the pairs: `layers: {teacher: student, ...}`")
        if not mapping.as_written and feature not in {"hidden", *ATTENTION}:
            message = f"`{mapping.name}` maps the layers of `hidden` and `attention`, not of `{feature}`"
            return Finding("KD301", message, path, help="write the pairs: `{teacher: student, ...}`")
        try:
            pairs = mapping.build(BuildContext())(layers[0] or 0, layers[1] or 0)
        except Fault as fault:
            return Finding(fault.code, fault.message, path, notes=fault.notes, help=fault.help)
        except Exception as error:  # noqa: BLE001 - a plugin's
            message = f"layer map `{mapping.name}` raised {type(error).__name__}: {error}"
            return Finding("KD506", message, path, help=TRACEBACK, cause=error)
        if feature in ATTENTION and not mapping.as_written:
            # Attention has no embedding output: layer 1 of `hidden` is index 0 there.
            return [(high - 1, low - 1) for high, low in pairs if high > 0 and low > 0]
        return pairs

    def _index(self, model: str, feature: str, index: int, path: SpecPath, *, key: bool) -> int | Finding:
        """The index counted from 0; a finding if the model has no such layer."""
        layers = self.facts[model].layers
        known = count(feature, self.paths[model].get(feature), layers)
        if known is None:
            return index
        if -known <= index < known:
            return index % known
        where = "index 0 is the embedding output" if feature == "hidden" else "the first layer is 0"
        message = f"`{model}` has no `{feature}` {index}: there are {known}, from 0 to {known - 1}"
        note = f"`{model}` has {layers} layers; in `{feature}` {where}"
        return Finding("KD301", message, path, f"layer {index} of `{model}`", key=key, notes=(note,))


def _wrong_number(loss: FeatureLoss, given: int, path: SpecPath) -> Finding:
    wanted = "two layers" if loss.arity == 2 else "one layer"
    message = f"`{loss.name}` takes {wanted} of each model, not {given}"
    return Finding("KD304", message, path, f"{given} here", help=how_many(loss.arity))


def how_many(arity: int) -> str:
    """The fix for the layers of a loss that takes this many of each model."""
    if arity == 2:
        return "write `pairs: [{teacher: [0, 4], student: [0, 1]}]`, or `layers:` to pair each layer with itself"
    return "write `layers: {teacher: student}`"
