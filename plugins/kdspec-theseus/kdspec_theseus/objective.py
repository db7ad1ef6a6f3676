"""The objective of `theseus`: the hard loss, while the student's layers are mixed with the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kdspec import DistillationObjective, Fault, Mean, Objective, Step, Term
from kdspec_theseus.replacement import Replacement, groups, layer_lists


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    name: str
    layers: int


class Replacing(Objective):
    """Mixes the layers from the beginning of a step to its end; between steps the student is an ordinary model.

    Args:
        inner: the hard loss.
        student: the model with the replacing layers.
        teacher: the model with the replaced layers.
        rate: the probability of a replacement by progress.
        everything: whether all of the student is trained, and not only its layers.
        path: path of the list of layers in both models.
    """

    changes_modules = True

    def __init__(
        self,
        inner: DistillationObjective,
        student: Side,
        teacher: Side,
        *,
        rate: Callable[[float], float],
        everything: bool,
        path: str | None,
    ) -> None:
        super().__init__()
        self.inner, self.student, self.teacher = inner, student, teacher
        self.rate, self.everything, self.path = rate, everything, path
        self._replacement: Replacement | None = None

    def on_step_begin(self, progress: float, models: Mapping[str, nn.Module]) -> None:
        """Mix the layers."""
        if self._replacement is None:
            self._replacement = self._made(models)
        self._replacement.begin(min(self.rate(progress), 1.0))

    def forward(self, step: Step) -> dict[str, Term]:
        """The hard loss."""
        terms = self.inner(step)
        if self._replacement is None:
            return terms
        zero = self._replacement.zero()
        return {name: Term(_plus(term.loss, zero), term.weight) for name, term in terms.items()}

    def on_step_end(self, progress: float) -> None:
        """Make the student an ordinary model again."""
        del progress
        if self._replacement is not None:
            self._replacement.end()

    def path_of(self, term: str) -> tuple[str | int, ...]:
        """The terms are those of `inner`."""
        return self.inner.path_of(term)

    def _made(self, models: Mapping[str, nn.Module]) -> Replacement:
        student, teacher = models[self.student.name], models[self.teacher.name]
        own, theirs = self._layers(student, self.student), self._layers(teacher, self.teacher)
        inside = {id(parameter) for parameter in own.parameters()}
        outside = [] if self.everything else [(n, p) for n, p in student.named_parameters() if id(p) not in inside]
        learning = [(name, parameter) for name, parameter in outside if parameter.requires_grad]
        self._check_equal(learning, dict(teacher.named_parameters()))
        others = [[theirs[i] for i in group] for group in groups(len(theirs), len(own))]
        return Replacement(list(own), others, [parameter for _, parameter in learning])

    def _layers(self, module: nn.Module, side: Side) -> nn.ModuleList:
        paths = layer_lists(module, side.layers)
        if self.path is None and len(paths) != 1:
            found = ", ".join(f"`{path}`" for path in paths) or "none"
            message = f"which list has the {side.layers} layers of `{side.name}`? There is {found}"
            raise Fault("KD303", message, help="write its path in `layers`")
        path = paths[0] if self.path is None else self.path
        if path not in paths:
            known = ", ".join(f"`{path}`" for path in paths)
            message = f"`{side.name}` has no list of {side.layers} layers at `{path}`"
            raise Fault("KD303", message, ("layers",), help=f"there is {known}" if known else None)
        found_list = module.get_submodule(path)
        assert isinstance(found_list, nn.ModuleList), "layer_lists gives lists"
        return found_list

    def _check_equal(self, own: list[tuple[str, nn.Parameter]], theirs: Mapping[str, nn.Parameter]) -> None:
        """Frozen parameters must be equal to the teacher's, since they are never trained."""
        for name, parameter in own:
            other = theirs.get(name)
            if other is None or other.shape != parameter.shape or not torch.equal(other, parameter):
                raise Fault(
                    "KD311",
                    f"`{name}` of `{self.student.name}` differs from that of `{self.teacher.name}`, and would never be trained",
                    ("student",),
                    help="write `initialize: {layers: [...]}` in the student, or `learns: all` here",
                )


def _plus(loss: Tensor | Mean, zero: Tensor) -> Tensor | Mean:
    return replace(loss, total=loss.total + zero) if isinstance(loss, Mean) else loss + zero
