"""Findings about one model: a feature that is not at its path, a module or a layer that it does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdspec.api.paths.field_path import FieldPathError
from kdspec.api.plan.plan import Feature
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.spec.spec import Spec
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, FindingError, Mark, SpecPath
from kdspec.engine.forward.position_limit import too_long


@dataclass(frozen=True)
class ModelFindings:
    """Composes the findings about a model that one task uses, at its places in the spec."""

    spec: Spec
    name: str
    """The model's name in the spec."""
    task: str
    matches: Sequence[PlannedMatch] = ()
    """Those that read the features: one of them may ask for a layer that does not exist."""

    @property
    def component(self) -> SpecPath:
        """The place of the model's component."""
        return ("models", self.name, self.spec.models[self.name].name)

    def too_long(self, module: nn.Module, inputs: Mapping[str, Any]) -> FindingError | None:
        """KD405 if rows are too long for the model, which has raised an error; otherwise None."""
        return too_long(self.spec, self.name, self.task, module, inputs)

    def wrong_columns(self, columns: Iterable[str], accepted: Iterable[str], error: TypeError) -> Fault:
        """KD502 for columns that do not fit the parameters of the model's forward."""
        return Fault(
            "KD502",
            f"model `{self.name}` does not take the columns {', '.join(f'`{k}`' for k in columns)}: {error}",
            notes=(f"its forward takes {', '.join(f'`{name}`' for name in accepted)}",),
            help="select the columns with `columns: [...]` in the task",
        )

    def no_layers(self, feature: str, value: Any) -> FindingError:
        """KD303 for a feature with layers whose value is not a list of tensors."""
        kind = "one tensor" if isinstance(value, Tensor) else "nothing" if value is None else type(value).__name__
        message = f"`{feature}` of `{self.name}` is {kind}, so it has no layers to select"
        help_ = "a feature with layers is a list of tensors, such as `output.hidden_states`"
        return FindingError(Finding("KD303", message, *self._mark(feature), help=help_))

    def no_layer(self, feature: str, missing: Sequence[int], count: int) -> FindingError:
        """KD301 at the matches that read a missing layer, or at the adaptor if there are none."""
        message = f"`{self.name}` returned {count} of `{feature}`; there is no index {missing[0]}"
        declared = self._mark(feature)
        asking = [match for match in self.matches if match.feature == feature]
        places = dict.fromkeys(place for match in asking if (place := self._asks(match, missing)) is not None)
        if not places:
            return FindingError(Finding("KD301", message, *declared))
        return FindingError(*(Finding("KD301", message, *place, also=(declared,)) for place in places))

    def not_found(self, feature: Feature, index: int, error: FieldPathError) -> FindingError:
        """KD303 for a field path without a value; `index` is its place among the paths of the feature."""
        message = f"`{feature.name}` of `{self.name}` is not at its path: {error.message}"
        notes = (f"the path is `{feature.paths[index]}`",)
        if self.name not in self.spec.adaptors:
            return FindingError(Finding("KD303", message, *self._mark(feature.name), notes=notes))
        at = ("adaptors", self.name, feature.name, *((index,) if feature.several else ()))
        part = (error.offset, error.offset + error.length)
        return FindingError(Finding("KD303", message, at, "not found", part=part, notes=notes))

    def no_scores(self, feature: str) -> FindingError:
        """KD303 for attention scores of a model whose attention has no softmax that returns the maps."""
        message = (
            f"`{feature}` of `{self.name}` is not known: its attention does not return what a softmax has computed"
        )
        help_ = "compare `attention` instead, the probabilities"
        return FindingError(Finding("KD303", message, *self._mark(feature), help=help_))

    def no_module(self, module: nn.Module, path: str, feature: str) -> FindingError:
        """KD303 for a field path through a module that the model does not have."""
        near = closest(path, [name for name, _ in module.named_modules() if name])
        help_ = f"did you mean `{near}`?" if near else "`kdspec parameters` shows the modules"
        message = f"model `{self.name}` has no module `{path}`"
        return FindingError(Finding("KD303", message, *self._mark(feature), help=help_))

    def _asks(self, match: PlannedMatch, missing: Sequence[int]) -> Mark | None:
        """The place where a match reads one of the layers of this model."""
        of_teacher = match.teacher == self.name and set(missing) & set(match.teacher_layers)
        if not of_teacher and not (match.student == self.name and set(missing) & set(match.student_layers)):
            return None
        # A teacher layer is a key of `layers`; pairs and layer maps are labelled as a whole.
        key = bool(of_teacher) and "layers" in match.layers_at[:-1]
        return Mark(match.layers_at, f"read from `{self.name}`", key=key)

    def _mark(self, feature: str) -> Mark:
        if self.name in self.spec.adaptors:
            return Mark(("adaptors", self.name, feature))
        return Mark(("tasks", self.task), f"its default adaptor is used for `{self.name}`", key=True)
