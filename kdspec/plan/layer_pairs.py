"""The pairs of layers that a match compares: written or mapped, each index checked against its model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kdspec.api.context import BuildContext, ModelFacts
from kdspec.api.kinds import LayerMap
from kdspec.api.losses import FeatureLoss
from kdspec.api.match import Match, Pair
from kdspec.api.spec_source import SpecSource
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark, SpecPath
from kdspec.plan.layer_counts import count


class Compared(NamedTuple):
    """A match that compares one feature, with all that it names."""

    match: Match
    feature: str
    loss: FeatureLoss
    teacher: str
    student: str
    path: SpecPath
    """Where the spec has the match."""


class LayerSelection(NamedTuple):
    """Layers that belong together, counted from 0; empty where a feature is compared as a whole."""

    teacher: tuple[int, ...]
    student: tuple[int, ...]
    at: SpecPath
    """Where the spec has the pair, or what it was made from."""


class Pairing:
    """Finds the layers of matches; what is wrong is added to `found`.

    Args:
        source: what is written in the spec.
        facts: for each model what is known of it.
        paths: for each model the field paths of its features.
        faulty: models with mistakes that are told already.
        found: where findings go.
    """

    def __init__(
        self,
        source: SpecSource,
        facts: Mapping[str, ModelFacts],
        paths: Mapping[str, Mapping[str, Any]],
        faulty: Collection[str],
        found: list[Finding],
    ) -> None:
        self.source, self.facts, self.paths, self.faulty, self.found = source, facts, paths, faulty, found

    def layers(self, compared: Compared) -> list[LayerSelection]:
        """The pairs of one match."""
        match, path = compared.match, compared.path
        if match.pairs is not None:
            written = [self._written(compared, pair, (*path, "pairs", index)) for index, pair in enumerate(match.pairs)]
            return [pair for pair in written if pair is not None]
        if match.layers is not None:
            return list(self._one_layer_each(compared, match.layers))
        return [LayerSelection((), (), path)]

    def _one_layer_each(self, compared: Compared, layers: LayerMap) -> Iterator[LayerSelection]:
        """Of a mapping; a two-layer loss takes each layer with itself."""
        at = (*compared.path, "layers")
        for high, low in self._mapped(compared, layers, at):
            short, long = (*at, high), (*at, layers.name, "pairs", high)
            where = next((one for one in (short, long) if self.source.has(one)), at)
            teacher = self._index(compared.teacher, compared.feature, high, where, key=True)
            student = self._index(compared.student, compared.feature, low, where, key=False)
            if teacher is not None and student is not None:
                yield LayerSelection((teacher,) * compared.loss.arity, (student,) * compared.loss.arity, where)

    def _written(self, compared: Compared, pair: Pair, path: SpecPath) -> LayerSelection | None:
        sides: list[tuple[int, ...]] = []
        for side, model in (("teacher", compared.teacher), ("student", compared.student)):
            written: Sequence[int] = getattr(pair, side)
            if len(written) != compared.loss.arity:
                self._wrong_number(compared.loss, len(written), (*path, side))
                return None
            found = [self._index(model, compared.feature, index, (*path, side), key=False) for index in written]
            sides.append(tuple(index for index in found if index is not None))
        return (
            LayerSelection(sides[0], sides[1], path[:-1])
            if all(len(side) == compared.loss.arity for side in sides)
            else None
        )

    def _mapped(self, compared: Compared, mapping: LayerMap, path: SpecPath) -> list[tuple[int, int]]:
        feature = compared.feature
        models = (compared.teacher, compared.student)
        layers = [self.facts[model].layers for model in models]
        if not mapping.as_written and None in layers:
            if any(model in self.faulty for model in models):
                return []  # what is wrong with the model is told already
            message = f"`{mapping.name}` needs to know how many layers `{models[layers.index(None)]}` has"
            help_ = "write the pairs: `layers: {teacher: student, ...}`"
            self.found.append(Finding("KD301", message, path, help=help_))
            return []
        if not mapping.as_written and feature not in ("hidden", "attention"):
            message = f"`{mapping.name}` maps the layers of `hidden` and `attention`, not of `{feature}`"
            self.found.append(Finding("KD301", message, path, help="write the pairs: `{teacher: student, ...}`"))
            return []
        try:
            pairs = mapping.build(BuildContext())(layers[0] or 0, layers[1] or 0)
        except Fault as fault:
            self.found.append(Finding(fault.code, fault.message, path, notes=fault.notes, help=fault.help))
            return []
        except Exception as error:  # noqa: BLE001 - a plugin's
            message = f"layer map `{mapping.name}` raised {type(error).__name__}: {error}"
            self.found.append(Finding("KD506", message, path))
            return []
        if feature == "attention" and not mapping.as_written:
            # Attention has no embedding output: layer 1 of `hidden` is index 0 there.
            return [(high - 1, low - 1) for high, low in pairs if high > 0 and low > 0]
        return pairs

    def _index(self, model: str, feature: str, index: int, path: SpecPath, *, key: bool) -> int | None:
        """The index counted from 0, or None with a finding where the model has no such layer."""
        layers = self.facts[model].layers
        known = count(feature, self.paths[model].get(feature), layers)
        if known is None:
            return index
        if -known <= index < known:
            return index % known
        label = Mark(path, f"layer {index} of `{model}`", key=key)
        where = "index 0 is the embedding output" if feature == "hidden" else "the first layer is 0"
        message = f"`{model}` has no `{feature}` {index}: there are {known}, from 0 to {known - 1}"
        note = f"`{model}` has {layers} layers; in `{feature}` {where}"
        finding = Finding("KD301", message, *label, notes=(note,))
        if finding not in self.found:
            self.found.append(finding)
        return None

    def _wrong_number(self, loss: FeatureLoss, given: int, path: SpecPath) -> None:
        wanted = "two layers" if loss.arity == 2 else "one layer"
        message = f"`{loss.name}` takes {wanted} of each model, not {given}"
        label = Mark(path, f"{given} here")
        self.found.append(Finding("KD304", message, *label, help=how_many(loss.arity)))


def how_many(arity: int) -> str:
    """How layers are written for a loss that takes so many of each model."""
    if arity == 2:
        return "write `pairs: [{teacher: [0, 4], student: [0, 1]}]`, or `layers:` to take each layer with itself"
    return "write `layers: {teacher: student}`"
