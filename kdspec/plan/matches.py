"""The matches of a stage, one a pair of layers: presets replaced by what they list, everything left open filled in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kdspec.api.context import BuildContext, ModelFacts
from kdspec.api.match import Match, PlannedMatch
from kdspec.api.spec_source import SpecSource
from kdspec.api.step import Needs
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, Mark, SpecPath
from kdspec.plan.derive_projections import ProjectionRule
from kdspec.plan.layer_counts import is_layered
from kdspec.plan.layer_pairs import Compared, Pairing, how_many
from kdspec.registry.registry import Registry
from kdspec.spec.spec import Spec


class MatchExpansion:
    """Expands the matches of one stage; what is wrong is collected in `found`."""

    def __init__(
        self,
        spec: Spec,
        source: SpecSource,
        registry: Registry,
        facts: Mapping[str, ModelFacts],
        stage: str,
        needs: Needs,
        paths: Mapping[str, Mapping[str, Any]],
        faulty: Collection[str] = (),
        task: str = "",
    ) -> None:
        self.spec, self.registry, self.facts, self.needs, self.paths = spec, registry, facts, needs, paths
        self.base: SpecPath = ("stages", stage, "distiller", spec.stages[stage].distiller.name, *needs.at)
        self.task = task
        self.found: list[Finding] = []
        self.unknown: list[tuple[str, str, SpecPath]] = []
        """Model, feature and match, where the model's adaptor lacks the feature."""
        self.pairing = Pairing(source, facts, paths, faulty, self.found)
        self.projecting = ProjectionRule(registry, facts, self.found)
        self.terms: dict[str, int] = {}

    def matches(self) -> Iterator[PlannedMatch]:
        """Every match, one a pair of layers."""
        for match, path in self._placed():
            for single, at in self._without_preset(match, path):
                assert single.feature is not None, "a match without a preset has a feature"
                assert single.loss is not None, "a match without a preset has a loss"
                teacher = match.teacher or self.needs.default_teacher or next(iter(self.needs.teachers), "")
                compared = Compared(single, single.feature, single.loss, teacher, self.needs.student, at)
                if self._fits(compared):
                    yield from self._expand(compared)

    def _placed(self) -> Iterator[tuple[Match, SpecPath]]:
        """The declared matches with their places: a strategy keeps them under `matches`, if anywhere."""
        distiller = self.spec.stages[str(self.base[1])].distiller
        written = getattr(self.needs.within(distiller), "matches", None)
        for match in self.needs.matches:
            index = next((i for i, m in enumerate(written) if m is match), None) if isinstance(written, list) else None
            yield match, self.base if index is None else (*self.base, "matches", index)

    def _without_preset(self, match: Match, path: SpecPath) -> Iterator[tuple[Match, SpecPath]]:
        if match.preset is None:
            yield match, path
            return
        shared: dict[str, Any] = {"weight": match.weight}
        if match.teacher is not None:
            shared["teacher"] = match.teacher
        try:
            listed = match.preset.build(BuildContext())
        except Exception as error:  # noqa: BLE001 - a plugin's
            message = f"preset `{match.preset.name}` raised {type(error).__name__}: {error}"
            self.found.append(Finding("KD506", message, (*path, "preset")))
            return
        for written in listed:
            try:
                yield Match.model_validate({**written, **shared}, context={"registry": self.registry}), path
            except ValidationError as error:
                first = error.errors(include_url=False)[0]["msg"]
                message = f"preset `{match.preset.name}` does not hold a match: {first}"
                self.found.append(Finding("KD203", message, (*path, "preset")))

    def _fits(self, compared: Compared) -> bool:
        """Whether the stage has the teacher, the adaptors the feature, and the loss is made for it."""
        feature, loss, teacher, student, path = compared[1:]
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
            made = Mark((*path, "loss"), f"compares `{loss.feature}`")
            chosen = Mark((*path, "feature"), "the feature")
            help_ = "`kdspec list feature_loss` tells what each loss compares"
            message = f"`{loss.name}` is a loss of `{loss.feature}`, not of `{feature}`"
            self.found.append(Finding("KD313", message, *made, also=(chosen,), help=help_))
            return False
        return self._layered(compared)

    def _layered(self, compared: Compared) -> bool:
        """Whether layers are given exactly where both features are lists of layers."""
        match, feature, loss, teacher, student, path = compared
        given = "layers" if match.layers is not None else "pairs" if match.pairs is not None else None
        for model in (student, teacher):
            written = self.paths[model][feature]
            layered = is_layered(written)
            if given is None and (layered or loss.arity > 1):
                what = f"`{feature}` of `{model}` has one tensor a layer"
                if loss.arity > 1:
                    what = f"`{loss.name}` takes two layers of each model"
                message = f"{what}, but the match has neither `layers` nor `pairs`"
                label = Mark((*path, "feature"), "which layers?")
                help_ = f"{how_many(loss.arity)}, or a layer map such as `layers: uniform`"
                self.found.append(Finding("KD304", message, *label, help=help_))
                return False
            if given is not None and layered is False:
                message = f"`{feature}` of `{model}` is one tensor, `{written}`, and has no layers"
                label = Mark((*path, given), "layers of what?", key=True)
                adaptor = Mark(("adaptors", model, feature), "one tensor")
                others = (adaptor,) if model in self.spec.adaptors else ()
                self.found.append(Finding("KD304", message, *label, also=others, help=f"remove `{given}`"))
                return False
        return True

    def _no_teacher(self, teacher: str, path: SpecPath) -> None:
        label = Mark(path, "no teacher of this stage")
        guess = closest(teacher, self.needs.teachers)
        named = ", ".join(f"`{name}`" for name in self.needs.teachers)
        notes = () if guess else (f"the teachers of this stage: {named}",)
        help_ = f"did you mean `{guess}`?" if guess else None
        message = f"unknown teacher `{teacher}`"
        self.found.append(
            Finding(
                "KD204", message, *label, notes=notes, help=help_, fix=(teacher, guess) if guess is not None else None
            )
        )

    def _expand(self, compared: Compared) -> Iterator[PlannedMatch]:
        before = len(self.found)
        pairs = self.pairing.layers(compared)
        if len(self.found) > before:
            return
        projection, origin = self.projecting.of(compared)
        if len(self.found) > before:
            return
        match, feature, loss, teacher, student, path = compared
        for pair in pairs:
            yield PlannedMatch(
                term=self._term(compared, pair.teacher, pair.student),
                feature=feature,
                loss=loss,
                teacher=teacher,
                student=student,
                teacher_layers=pair.teacher,
                student_layers=pair.student,
                weight=match.weight,
                projection=projection,
                projection_origin=origin,
                teacher_width=self.projecting.width(teacher, feature),
                student_width=self.projecting.width(student, feature),
                path=path,
                layers_at=pair.at,
                task=self.task,
            )

    def _term(self, compared: Compared, high: Sequence[int], low: Sequence[int]) -> str:
        """`hidden.mmd.6-2`: feature, loss, teacher layer and student layer; of two different layers `6-2.7-3`."""
        pairs = dict.fromkeys(zip(high, low, strict=True))
        layers = ".".join(f"{teacher}-{student}" for teacher, student in pairs) or "all"
        prefix = f"{self.task}." if self.task else ""
        prefix += f"{compared.teacher}." if len(self.needs.teachers) > 1 else ""
        name = f"{prefix}{compared.feature}.{compared.loss.name}.{layers}"
        self.terms[name] = number = self.terms.get(name, 0) + 1
        return name if number == 1 else f"{name}#{number}"
