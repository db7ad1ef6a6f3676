"""Matches to pairs of layers: layer maps applied, indices checked against the models, projections derived."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from kdspec.context import BuildContext, ModelFacts
from kdspec.diagnostics import Diagnostic, Label, closest
from kdspec.fault import Fault
from kdspec.kinds import Projection
from kdspec.layering import count, is_layered
from kdspec.match import Match, Pair, PlannedMatch
from kdspec.registry import Registry
from kdspec.source import Path
from kdspec.spec import Spec
from kdspec.step import Needs

Origin = Literal["written", "derived", "off", "unneeded", "unknown"]


class Expansion:
    """Expands the matches of one stage; what is wrong is collected in `found`."""

    def __init__(
        self,
        spec: Spec,
        registry: Registry,
        facts: Mapping[str, ModelFacts],
        stage: str,
        needs: Needs,
        paths: Mapping[str, Mapping[str, Any]],
        faulty: Collection[str] = (),
    ) -> None:
        self.spec, self.registry, self.facts, self.needs, self.paths = spec, registry, facts, needs, paths
        self.base: Path = ("stages", stage, "distiller", spec.stages[stage].distiller.name)
        self.faulty = faulty
        self.found: list[Diagnostic] = []
        self.unknown: list[tuple[str, str, Path]] = []
        """Model, feature and match, where the model's adaptor lacks the feature."""
        self.terms: dict[str, int] = {}

    def matches(self) -> Iterator[PlannedMatch]:
        """Every match, one a pair of layers."""
        for match, path in self._placed():
            for single, at in self._without_preset(match, path):
                teacher = match.teacher or self.needs.default_teacher or next(iter(self.needs.teachers), "")
                if self._fits(single, teacher, at):
                    yield from self._expand(single, teacher, at)

    def _placed(self) -> Iterator[tuple[Match, Path]]:
        """The declared matches with their places: a strategy keeps them under `matches`, if anywhere."""
        distiller = self.spec.stages[self.base[1]].distiller  # type: ignore[index]
        written = getattr(distiller, "matches", None)
        for match in self.needs.matches:
            index = next((i for i, m in enumerate(written) if m is match), None) if isinstance(written, list) else None
            yield match, self.base if index is None else (*self.base, "matches", index)

    def _without_preset(self, match: Match, path: Path) -> Iterator[tuple[Match, Path]]:
        if match.preset is None:
            yield match, path
            return
        shared: dict[str, Any] = {"weight": match.weight}
        if match.teacher is not None:
            shared["teacher"] = match.teacher
        for written in match.preset.build(BuildContext()):
            try:
                yield Match.model_validate({**written, **shared}, context={"registry": self.registry}), path
            except ValidationError as error:
                first = error.errors(include_url=False)[0]["msg"]
                message = f"preset `{match.preset.name}` does not hold a match: {first}"
                self.found.append(Diagnostic("KD203", message, self.spec.label((*path, "preset"))))

    def _fits(self, match: Match, teacher: str, path: Path) -> bool:
        """Whether the stage has the teacher, the adaptors the feature, and the loss is made for it."""
        assert match.feature is not None
        assert match.loss is not None
        student, feature, loss = self.needs.student, match.feature, match.loss
        if teacher not in self.needs.teachers:
            self._no_teacher(teacher, (*path, "teacher"))
            return False
        lacking = [model for model in (student, teacher) if feature not in self.paths[model]]
        if len(lacking) > 1 and all(closest(feature, self.paths[model]) for model in lacking):
            lacking = lacking[:1]  # misspelt: one mistake, not two
        self.unknown += [(model, feature, path) for model in lacking]
        if lacking:
            return False
        if loss.feature is not None and feature in ("hidden", "attention") and feature != loss.feature:
            made = self.spec.label((*path, "loss"), f"compares `{loss.feature}`")
            chosen = self.spec.label((*path, "feature"), "the feature")
            help_ = "`kdspec list feature_loss` tells what each loss compares"
            message = f"`{loss.name}` is a loss of `{loss.feature}`, not of `{feature}`"
            others = () if made.span == chosen.span else (chosen,)
            self.found.append(Diagnostic("KD313", message, made, others, help=help_))
            return False
        return self._layered(match, teacher, path)

    def _layered(self, match: Match, teacher: str, path: Path) -> bool:
        """Whether layers are given exactly where both features are lists of layers."""
        assert match.feature is not None
        assert match.loss is not None
        given = "layers" if match.layers is not None else "pairs" if match.pairs is not None else None
        for model in (self.needs.student, teacher):
            written = self.paths[model][match.feature]
            layered = is_layered(written)
            if given is None and (layered or match.loss.arity > 1):
                what = f"`{match.feature}` of `{model}` has one tensor a layer"
                if match.loss.arity > 1:
                    what = f"`{match.loss.name}` takes two layers of each model"
                message = f"{what}, but the match has neither `layers` nor `pairs`"
                label = self.spec.label((*path, "feature"), "which layers?")
                help_ = f"{_arity_help(match.loss.arity)}, or a layer map such as `layers: uniform`"
                self.found.append(Diagnostic("KD304", message, label, help=help_))
                return False
            if given is not None and layered is False:
                message = f"`{match.feature}` of `{model}` is one tensor, `{written}`, and has no layers"
                label = self.spec.label((*path, given), "layers of what?", key=True)
                adaptor = self.spec.label(("adaptors", model, match.feature), "one tensor")
                others = (adaptor,) if model in self.spec.adaptors else ()
                self.found.append(Diagnostic("KD304", message, label, others, help=f"remove `{given}`"))
                return False
        return True

    def _no_teacher(self, teacher: str, path: Path) -> None:
        label = self.spec.label(path, "no teacher of this stage")
        guess = closest(teacher, self.needs.teachers)
        edit = self.spec.replace(path, teacher, guess) if guess is not None else None
        named = ", ".join(f"`{name}`" for name in self.needs.teachers)
        notes = () if guess else (f"the teachers of this stage: {named}",)
        help_ = f"did you mean `{guess}`?" if guess else None
        message = f"unknown teacher `{teacher}`"
        self.found.append(Diagnostic("KD204", message, label, notes=notes, help=help_, edit=edit))

    def _expand(self, match: Match, teacher: str, path: Path) -> Iterator[PlannedMatch]:
        assert match.feature is not None
        assert match.loss is not None
        before = len(self.found)
        for teachers, _, at in self._pairs(match, teacher, path):
            if len(teachers) not in (0, match.loss.arity):
                self._arity(match, len(teachers), at)
        pairs = [] if len(self.found) > before else list(self._pairs(match, teacher, path))
        projection, origin = self._projection(match, teacher, path) if len(self.found) == before else (None, "unneeded")
        for teachers, students, _ in pairs:
            yield PlannedMatch(
                term=self._term(match, teacher, teachers, students),
                feature=match.feature,
                loss=match.loss,
                teacher=teacher,
                student=self.needs.student,
                teacher_layers=teachers,
                student_layers=students,
                weight=match.weight,
                projection=projection,
                projection_origin=origin,
                teacher_width=self._width(teacher, match.feature),
                student_width=self._width(self.needs.student, match.feature),
                path=path,
            )

    def _pairs(self, match: Match, teacher: str, path: Path) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], Path]]:
        assert match.feature is not None
        assert match.loss is not None
        student = self.needs.student
        if match.pairs is not None:
            for index, pair in enumerate(match.pairs):
                yield from self._checked_pair(match, teacher, pair, (*path, "pairs", index))
            return
        if match.layers is None:
            yield (), (), path
            return
        for high, low in self._mapped(match, teacher, path):
            at = (*path, "layers")
            short, long = (*at, high), (*at, match.layers.name, "pairs", high)
            where = next((one for one in (short, long) if one in self.spec.document.keys), at)
            sides = (
                self._index(teacher, match.feature, high, where, key=True),
                self._index(student, match.feature, low, where, key=False),
            )
            if sides[0] is not None and sides[1] is not None:
                # A two-layer loss under `layers` takes each layer with itself.
                yield (sides[0],) * match.loss.arity, (sides[1],) * match.loss.arity, at

    def _checked_pair(
        self, match: Match, teacher: str, pair: Pair, path: Path
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], Path]]:
        assert match.feature is not None
        assert match.loss is not None
        sides: list[tuple[int, ...]] = []
        for side, model in (("teacher", teacher), ("student", self.needs.student)):
            written: Sequence[int] = getattr(pair, side)
            if len(written) != match.loss.arity:
                self._arity(match, len(written), (*path, side))
                return
            found = [self._index(model, match.feature, index, (*path, side), key=False) for index in written]
            sides.append(tuple(index for index in found if index is not None))
        if all(len(side) == match.loss.arity for side in sides):
            yield sides[0], sides[1], path

    def _mapped(self, match: Match, teacher: str, path: Path) -> list[tuple[int, int]]:
        assert match.layers is not None
        label = self.spec.label((*path, "layers"))
        layers = self.facts[teacher].layers, self.facts[self.needs.student].layers
        if not match.layers.as_written and None in layers:
            if teacher in self.faulty or self.needs.student in self.faulty:
                return []  # what is wrong with the model is told already
            unknown = [m for m, n in zip((teacher, self.needs.student), layers, strict=True) if n is None]
            message = f"`{match.layers.name}` needs to know how many layers `{unknown[0]}` has"
            help_ = "write the pairs: `layers: {teacher: student, ...}`"
            self.found.append(Diagnostic("KD301", message, label, help=help_))
            return []
        if not match.layers.as_written and match.feature not in ("hidden", "attention"):
            message = f"`{match.layers.name}` maps the layers of `hidden` and `attention`, not of `{match.feature}`"
            self.found.append(Diagnostic("KD301", message, label, help="write the pairs: `{teacher: student, ...}`"))
            return []
        try:
            pairs = match.layers.build(BuildContext())(layers[0] or 0, layers[1] or 0)
        except Fault as fault:
            self.found.append(Diagnostic(fault.code, fault.message, label, notes=fault.notes, help=fault.help))
            return []
        if match.feature == "attention" and not match.layers.as_written:
            # Attention has no embedding output: layer 1 of `hidden` is index 0 there.
            return [(high - 1, low - 1) for high, low in pairs if high > 0 and low > 0]
        return pairs

    def _index(self, model: str, feature: str, index: int, path: Path, *, key: bool) -> int | None:
        """The index counted from 0, or None with a diagnostic where the model has no such layer."""
        layers = self.facts[model].layers
        known = count(feature, self.paths[model].get(feature), layers)
        if known is None:
            return index
        if -known <= index < known:
            return index % known
        label = self.spec.label(path, f"layer {index} of `{model}`", key=key)
        where = "index 0 is the embedding output" if feature == "hidden" else "the first layer is 0"
        message = f"`{model}` has no `{feature}` {index}: there are {known}, from 0 to {known - 1}"
        note = f"`{model}` has {layers} layers; in `{feature}` {where}"
        diagnostic = Diagnostic("KD301", message, label, notes=(note,))
        if diagnostic not in self.found:
            self.found.append(diagnostic)
        return None

    def _width(self, model: str, feature: str) -> int | None:
        return self.facts[model].width if feature == "hidden" else None

    def _arity(self, match: Match, given: int, path: Path) -> None:
        assert match.loss is not None
        wanted = "two layers" if match.loss.arity == 2 else "one layer"
        message = f"`{match.loss.name}` takes {wanted} of each model, not {given}"
        label = self.spec.label(path, f"{given} here")
        diagnostic = Diagnostic("KD304", message, label, help=_arity_help(match.loss.arity))
        if diagnostic not in self.found:
            self.found.append(diagnostic)

    def _projection(self, match: Match, teacher: str, path: Path) -> tuple[Projection | None, Origin]:
        assert match.loss is not None
        assert match.feature is not None
        student = self.needs.student
        off = match.projection is not None and match.projection.name == "none"
        if match.feature == "attention":
            self._heads(match, teacher, path)
            if match.projection is not None and not off:
                label = self.spec.label((*path, "projection"), "attention has no width")
                self.found.append(Diagnostic("KD313", "a projection cannot be applied to attention", label))
            return None, "unneeded"
        if match.projection is not None and not off:
            return match.projection, "written"
        if not match.loss.same_width:
            return None, "off" if off else "unneeded"
        widths = self._width(student, match.feature), self._width(teacher, match.feature)
        if None in widths:
            return (None, "off") if off else (None, "unknown")
        if widths[0] == widths[1]:
            return None, "off" if off else "unneeded"
        if off:
            message = f"`{student}` is {widths[0]} wide, `{teacher}` {widths[1]}, and `projection` is `none`"
            label = self.spec.label((*path, "projection"), "turned off here")
            sides = (self._side(student, widths[0]), self._side(teacher, widths[1]))
            help_ = f"remove `projection: none`, and a linear projection {widths[0]} → {widths[1]} is derived"
            self.found.append(Diagnostic("KD302", message, label, sides, help=help_))
            return None, "off"
        return self.registry.get("projection", "linear")(), "derived"

    def _side(self, model: str, width: int | None) -> Label:
        return self.spec.label(("models", model), f"{width} wide", key=True)

    def _heads(self, match: Match, teacher: str, path: Path) -> None:
        assert match.loss is not None
        student = self.needs.student
        heads = self.facts[student].heads, self.facts[teacher].heads
        if match.loss.same_heads and None not in heads and heads[0] != heads[1]:
            message = (
                f"`{match.loss.name}` compares head by head, but `{student}` has {heads[0]} and `{teacher}` {heads[1]}"
            )
            label = self.spec.label((*path, "loss"), "needs equal heads")
            help_ = f"use `{match.loss.name}_mean`" if match.loss.name == "attention_ce" else None
            if match.loss.name == "attention_mse":
                help_ = "use `attention_mse_sum`, or give the student as many heads"
            self.found.append(Diagnostic("KD309", message, label, help=help_))

    def _term(self, match: Match, teacher: str, high: Sequence[int], low: Sequence[int]) -> str:
        """`hidden.mmd.6-2`: feature, loss, teacher layer and student layer."""
        assert match.loss is not None
        layers = ".".join("-".join(str(i) for i in side) for side in zip(high, low, strict=True)) if high else "all"
        layers = layers if len(set(high)) > 1 or len(set(low)) > 1 or not high else f"{high[0]}-{low[0]}"
        prefix = f"{teacher}." if len(self.needs.teachers) > 1 else ""
        name = f"{prefix}{match.feature}.{match.loss.name}.{layers}"
        self.terms[name] = number = self.terms.get(name, 0) + 1
        return name if number == 1 else f"{name}#{number}"


def _arity_help(arity: int) -> str:
    if arity == 2:
        return "write `pairs: [{teacher: [0, 4], student: [0, 1]}]`, or `layers:` to take each layer with itself"
    return "write `layers: {teacher: student}`"
