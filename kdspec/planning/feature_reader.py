"""The features that a stage reads: their field paths in the models' outputs, and errors for missing ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kdspec.api.kinds.context import AdaptorContext
from kdspec.api.paths.field_path import parse as parse_path
from kdspec.api.plan.needs import TaskNeeds
from kdspec.api.plan.plan import Feature
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.spec.spec import Spec
from kdspec.data.answers.recorded import answered_task
from kdspec.diagnostics.diagnostic import did_you_mean, near
from kdspec.diagnostics.finding import Finding, Mark, SpecPath
from kdspec.planning.matches import Lacking

Paths = Mapping[str, str | list[str]]
"""The field paths of a model's features, by name."""


def adaptor_paths(spec: Spec, model: str, task: str) -> tuple[Paths, bool]:
    """The field paths of a model's features, and whether they are in the spec (else they are the task's)."""
    written = spec.adaptors.get(model)
    if written is not None:
        return written.build(AdaptorContext(task=task)), True
    own = spec.tasks[task].adaptor()
    if spec.tasks[task].answered is not None and not spec.models[model].has_weights:
        return answered_task.adaptor(own), False
    return own, False


def locate(spec: Spec, model: str, task: str, names: Iterable[str]) -> dict[str, Feature]:
    """The named features that a model's adaptor has, each as a whole."""
    paths = adaptor_paths(spec, model, task)[0]
    return {name: feature(name, paths[name]) for name in names if name in paths}


def feature(name: str, value: str | list[str], layers: tuple[int, ...] | None = None) -> Feature:
    """One feature at the field paths that an adaptor gives."""
    texts = value if isinstance(value, list) else [value]
    paths = tuple(parse_path(text) for text in texts)
    return Feature(name=name, paths=paths, several=isinstance(value, list), layers=layers)


@dataclass(frozen=True, kw_only=True)
class FeatureReader:
    """Finds the features that one task of a stage reads.

    Args:
        spec: the spec.
        stage: the name of the stage.
        student: the model that is trained.
        needs: the needs of the strategy for the task.
        task: the name of the task.
        paths: for each model the field paths of its features.
        form: how the student reads the texts of a row.
    """

    spec: Spec
    stage: str
    student: str
    needs: TaskNeeds
    task: str
    paths: Mapping[str, Paths]
    form: str = ""

    def missing(self, lacking: Iterable[Lacking]) -> Iterator[Finding]:
        """The features that the strategy, its labels and its matches read and the adaptor lacks.

        Args:
            lacking: the features of matches that an adaptor lacks.
        """
        for model, names in self.needs.reads.items():
            if model in self.paths:
                why = f"the `{self._distiller}` strategy reads it"
                yield from (self._missing(model, name, why) for name in sorted(names) if name not in self.paths[model])
        if self.needs.hard_labels:
            yield from self._missing_labels()
        if self.needs.matches and "inputs_mask" not in self.paths[self.student] and self.student in self.spec.adaptors:
            yield self._padding()
        for each in lacking:
            at = (*each.match, "feature")
            yield self._missing(each.model, each.feature, "this match needs it", at, written=each.written)

    def features(self, matches: Iterable[PlannedMatch]) -> dict[str, dict[str, Feature]]:
        """For each model the features that are read."""
        layers: dict[tuple[str, str], set[int]] = {}
        whole = {(model, name) for model in self.paths for name in self._whole(model)}
        for match in matches:
            sides = ((self.student, match.student_layers), (match.teacher, match.teacher_layers))
            for model, indices in sides:
                if indices:
                    layers.setdefault((model, match.feature), set()).update(indices)
                else:
                    whole.add((model, match.feature))
        return {model: dict(self._of(model, whole, layers)) for model in self.paths}

    def _of(
        self, model: str, whole: set[tuple[str, str]], layers: Mapping[tuple[str, str], set[int]]
    ) -> Iterator[tuple[str, Feature]]:
        for name in sorted({name for of, name in (*whole, *layers) if of == model}):
            if name not in self.paths[model]:
                continue
            used = layers.get((model, name))
            chosen = None if used is None or name in self.needs.reads.get(model, frozenset()) else tuple(sorted(used))
            yield name, feature(name, self.paths[model][name], chosen)

    def _whole(self, model: str) -> Iterator[str]:
        """The features that are read other than by matches."""
        yield from self.needs.reads.get(model, frozenset())
        yield from self.needs.optional.get(model, frozenset())
        if model == self.student and self.needs.hard_labels:
            yield from ("losses",) if self._own_loss else ("logits", "labels", *self._of_hard_labels)

    @property
    def _own_loss(self) -> bool:
        """Whether the student returns its own hard loss."""
        labelled = self.student in self.spec.adaptors or self.spec.tasks[self.task].has_labels()
        return "losses" in self.paths[self.student] and labelled

    @property
    def _of_hard_labels(self) -> Collection[str]:
        return self.spec.tasks[self.task].hard_features(self.form)

    @property
    def _distiller(self) -> str:
        return self.spec.stages[self.stage].distiller.name

    @property
    def _place(self) -> SpecPath:
        """The path of the strategy, or of its part for this task."""
        path = ("stages", self.stage, "distiller")
        return (*path, self._distiller, *self.needs.at) if self.needs.at else path

    def _missing_labels(self) -> Iterator[Finding]:
        if self._own_loss:
            return
        if not self.spec.tasks[self.task].has_labels():
            label = Mark(self._place, "learns hard labels", key=bool(self.needs.at))
            also = (Mark(("tasks", self.task), "has no labels", key=True),)
            message = f"stage `{self.stage}` learns hard labels, but task `{self.task}` has none"
            column = "name their column in the task, or learn from a teacher alone"
            help_ = column if self.spec.tasks[self.task].measured_beside else None
            yield Finding("KD312", message, *label, also=also, help=help_)
            return
        for name in ("logits", "labels", *self._of_hard_labels):
            if name not in self.paths[self.student]:
                yield self._missing(self.student, name, "the hard-label loss reads it")

    def _missing(
        self, model: str, name: str, why: str, path: SpecPath | None = None, *, written: bool = False
    ) -> Finding:
        guesses = near(name, self.paths[model]) if written else ()
        add = f"add `{name}: ...` with its field path to `adaptors.{model}`"
        return Finding(
            "KD303",
            f"the adaptor of `{model}` has no feature `{name}`{f' for task `{self.task}`' if self.needs.at else ''}",
            path or self._place,
            why,
            key=path is None and bool(self.needs.at),
            also=(self._declared(model),),
            help=did_you_mean(guesses) or add,
            fix=(name, guesses[0]) if len(guesses) == 1 else None,
        )

    def _declared(self, model: str) -> Mark:
        names = ", ".join(f"`{name}`" for name in self.paths[model]) or "no feature"
        if model in self.spec.adaptors:
            return Mark(("adaptors", model), f"declared here, with {names}", key=True)
        if not self.spec.models[model].has_weights:
            return Mark(("models", model), f"recorded answers give {names}", key=True)
        return Mark(("tasks", self.task), f"the task's default adaptor has {names}", key=True)

    def _padding(self) -> Finding:
        message = f"matches of `{self.student}` average over padding too: its adaptor has no `inputs_mask`"
        help_ = "add `inputs_mask: batch.attention_mask`"
        return Finding("KD305", message, *self._declared(self.student), help=help_, severity="warning")
