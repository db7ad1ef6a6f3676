"""The matches of a stage, one per pair of layers: expands presets, and resolves layers, projections and names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import FeatureLoss
from kdspec.api.kinds.model import ModelFacts
from kdspec.api.plan.needs import TaskNeeds
from kdspec.api.spec.match import Match, PlannedMatch, matches_of
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import TRACEBACK, Finding, Mark, SpecPath
from kdspec.planning.derive_projections import Kept, ProjectionRule
from kdspec.planning.layer_counts import is_layered, is_scores
from kdspec.planning.layer_pairs import Compared, LayerSelection, Pairing, how_many
from kdspec.registry.registry import Registry

_KINDS = ("hidden", "attention", "embedding")
"""The features that losses are made for."""


def other_feature(loss: FeatureLoss, feature: str) -> bool:
    """Whether a loss is made for another one of these features; all losses take features of other names."""
    if loss.vectors and feature == "embedding":
        return False
    return loss.feature is not None and feature in _KINDS and feature != loss.feature


@dataclass(frozen=True)
class Lacking:
    """A feature of a match that the adaptor of a model lacks."""

    model: str
    feature: str
    match: SpecPath
    written: bool
    """Whether the spec names the feature in the match, and not by a preset."""


@dataclass
class Expanded:
    """The matches of one task of a stage, and the findings."""

    matches: list[PlannedMatch] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lacking: list[Lacking] = field(default_factory=list)


class MatchExpansion:
    """Expands the matches of one task of a stage.

    Args:
        spec: the spec.
        source: the spec as written.
        registry: the components that presets name.
        facts: the facts of each model.
        stage: the name of the stage.
        student: the model that is trained.
        needs: the needs of the strategy for the task.
        paths: for each model the field paths of its features.
        faulty: models with errors that are already reported.
        task: the name of the task, in a stage of several.
        kept: the projections that are layers of students.
    """

    def __init__(
        self,
        spec: Spec,
        source: SpecSource,
        registry: Registry,
        facts: Mapping[str, ModelFacts],
        stage: str,
        student: str,
        needs: TaskNeeds,
        paths: Mapping[str, Mapping[str, Any]],
        faulty: Collection[str] = (),
        task: str = "",
        kept: Kept | None = None,
    ) -> None:
        self.spec, self.source, self.registry, self.student = spec, source, registry, student
        self.needs, self.paths = needs, paths
        self.base: SpecPath = ("stages", stage, "distiller", spec.stages[stage].distiller.name, *needs.at)
        self.task = task
        self.pairing = Pairing(source, facts, paths, faulty)
        self.projections, self._kept = ProjectionRule(registry, facts, kept), kept or Kept()
        self.terms: dict[str, int] = {}

    def expanded(self) -> Expanded:
        """Every match, one per pair of layers, and the errors in them."""
        made = Expanded()
        for found in self._all():
            match found:
                case PlannedMatch():
                    made.matches.append(found)
                case Finding():
                    made.findings.append(found)
                case Lacking():
                    made.lacking.append(found)
        return made

    def _all(self) -> Iterator[PlannedMatch | Finding | Lacking]:
        for compared in self.compared():
            if isinstance(compared, Finding):
                yield compared
                continue
            wrong = self._unfit(compared)
            yield from wrong or self._expand(compared)

    def compared(self) -> Iterator[Compared | Finding]:
        """Every match with its loss and models, those of presets too, before its layers are known."""
        for match, path in self._placed():
            for single in self._without_preset(match, path):
                if isinstance(single, Finding):
                    yield single
                    continue
                assert single.feature is not None, "a match without a preset has a feature"
                assert single.loss is not None, "a match without a preset has a loss"
                teacher = match.teacher or self.needs.default_teacher or next(iter(self.needs.teachers), "")
                yield Compared(single, single.feature, single.loss, teacher, self.student, path)

    def _placed(self) -> Iterator[tuple[Match, SpecPath]]:
        """The declared matches with their paths; a match that the strategy makes itself has the path of the strategy."""
        distiller = self.spec.stages[str(self.base[1])].distiller
        written = list(matches_of(self.needs.within(distiller)))
        for match in self.needs.matches:
            yield match, next(((*self.base, *keys) for other, keys in written if other is match), self.base)

    def _without_preset(self, match: Match, path: SpecPath) -> Iterator[Match | Finding]:
        if match.preset is None:
            yield match
            return
        shared: dict[str, Any] = {"weight": match.weight}
        if match.teacher is not None:
            shared["teacher"] = match.teacher
        try:
            listed = match.preset.build(BuildContext())
        except Exception as error:  # noqa: BLE001 - a plugin's
            message = f"preset `{match.preset.name}` raised {type(error).__name__}: {error}"
            yield Finding("KD506", message, (*path, "preset"), help=TRACEBACK, cause=error)
            return
        for written in listed:
            try:
                yield Match.model_validate({**written, **shared}, context={"registry": self.registry})
            except ValidationError as error:
                first = error.errors(include_url=False)[0]["msg"]
                message = f"preset `{match.preset.name}` has an invalid match: {first}"
                yield Finding("KD203", message, (*path, "preset"))

    def _unfit(self, compared: Compared) -> Sequence[Finding | Lacking]:
        """Errors in a match: unknown teacher or feature, a loss for another feature, or layers of a feature without layers."""
        feature, loss, teacher, student, path = compared[1:]
        if teacher not in self.needs.teachers:
            return [self._no_teacher(teacher, (*path, "teacher"))]
        without = [model for model in (student, teacher) if feature not in self.paths[model]]
        if len(without) > 1 and all(closest(feature, self.paths[model]) for model in without):
            without = without[:1]  # misspelt: one error, not two
        if without:
            written = self.source.has((*path, "feature"))
            return [Lacking(model, feature, path, written) for model in without]
        scores = is_scores(self.paths[student][feature]) and loss.feature is not None and not loss.scores
        if scores or other_feature(loss, feature):
            made = Mark((*path, "loss"), f"compares `{loss.feature}`")
            chosen = Mark((*path, "feature"), "the feature")
            help_ = "`kdspec list feature_loss` shows what each loss compares"
            if scores:
                help_ = f"compare `{loss.feature}` with it, or the scores by `attention_mse`"
            elif feature == "embedding":
                help_ = "it is one vector a row; `cos`, `embedding_mse` and `similarity_kl` are losses for it"
            elif loss.feature == "embedding":
                help_ = "it compares one vector a row: write `feature: embedding`"
            message = f"`{loss.name}` is a loss for `{loss.feature}`, not for `{feature}`"
            return [Finding("KD313", message, *made, also=(chosen,), help=help_)]
        projection = compared.match.projection
        if projection is not None and projection.scope == "step":
            message = f"the projection `{projection.name}` takes the rows of a whole step, which only losses may"
            return [
                Finding("KD516", message, (*path, "projection"), help="a projection takes positions, rows or a batch")
            ]
        return list(self._layerless(compared))[:1]

    def _layerless(self, compared: Compared) -> Iterator[Finding]:
        """Errors if layers are given for a feature without layers, or not given for one with layers."""
        match, feature, loss, teacher, student, path = compared
        given = "layers" if match.layers is not None else "pairs" if match.pairs is not None else None
        for model in (student, teacher):
            written = self.paths[model][feature]
            layered = is_layered(written)
            if given is None and (layered or loss.arity > 1):
                what = f"`{feature}` of `{model}` has one tensor per layer"
                if loss.arity > 1:
                    what = f"`{loss.name}` takes two layers of each model"
                message = f"{what}, but the match has neither `layers` nor `pairs`"
                help_ = f"{how_many(loss.arity)}, or a layer map such as `layers: uniform`"
                yield Finding("KD304", message, (*path, "feature"), "which layers?", help=help_)
            if given is not None and layered is False:
                message = f"`{feature}` of `{model}` is one tensor, `{written}`, and has no layers"
                label = Mark((*path, given), "layers of what?", key=True)
                also = (Mark(("adaptors", model, feature), "one tensor"),) if model in self.spec.adaptors else ()
                yield Finding("KD304", message, *label, also=also, help=f"remove `{given}`")

    def _no_teacher(self, teacher: str, path: SpecPath) -> Finding:
        guess = closest(teacher, self.needs.teachers)
        named = ", ".join(f"`{name}`" for name in self.needs.teachers)
        return Finding(
            "KD204",
            f"unknown teacher `{teacher}`",
            path,
            "no teacher of this stage",
            notes=() if guess else (f"the teachers of this stage: {named}",),
            help=f"did you mean `{guess}`?" if guess else None,
            fix=(teacher, guess) if guess is not None else None,
        )

    def _expand(self, compared: Compared) -> Iterator[PlannedMatch | Finding]:
        pairs = list(self.pairing.layers(compared))
        wrong = [pair for pair in pairs if isinstance(pair, Finding)] or list(self.projections.mistakes(compared))
        if wrong:
            yield from wrong
            return
        projection, origin = self.projections.of(compared)
        match, feature, loss, teacher, student, path = compared
        kept = self.projections.kept(compared)
        width = self.projections.width(student, feature) if kept is None else self._kept.projections[student].takes
        for pair in pairs:
            assert isinstance(pair, LayerSelection), "findings were returned above"
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
                teacher_width=self.projections.width(teacher, feature),
                student_width=width,
                kept=kept,
                path=path,
                layers_at=pair.at,
                task=self.task,
            )

    def _term(self, compared: Compared, high: Sequence[int], low: Sequence[int]) -> str:
        """`hidden.mmd.6-2`: feature, loss, teacher layer and student layer; for two layers `6-2.7-3`."""
        pairs = dict.fromkeys(zip(high, low, strict=True))
        layers = ".".join(f"{teacher}-{student}" for teacher, student in pairs) or "all"
        prefix = f"{self.task}." if self.task else ""
        prefix += f"{compared.teacher}." if len(self.needs.teachers) > 1 else ""
        name = f"{prefix}{compared.feature}.{compared.loss.name}.{layers}"
        self.terms[name] = number = self.terms.get(name, 0) + 1
        return name if number == 1 else f"{name}#{number}"
