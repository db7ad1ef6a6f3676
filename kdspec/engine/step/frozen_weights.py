"""The weights of the teachers of a stage: those that the strategy changes are state, and the others may not change."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from kdspec.api.plan.plan import StagePlan
from kdspec.diagnostics.finding import Finding, FindingError, Mark

_GROUP = "teachers"
"""The group of a checkpoint."""


class TeacherWeights:
    """The teachers of a stage by name, with what was known of the frozen ones when it began.

    Args:
        stage: the stage.
        modules: its teachers.
    """

    def __init__(self, stage: StagePlan, modules: Mapping[str, nn.Module]) -> None:
        self.stage = stage
        self.changing = {name: module for name, module in modules.items() if name in stage.needs.changing}
        # The tensors themselves: a strategy may put other modules in their place for a step.
        self._frozen = {
            name: [(tensor, _sum(tensor)) for tensor in module.parameters()]
            for name, module in modules.items()
            if name not in stage.needs.changing and not _sharded(module)
        }

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The weights and buffers of the teachers that change, as a group of a checkpoint; empty without any."""
        tensors = {
            f"{name}:{key}": value
            for name, module in self.changing.items()
            for key, value in module.state_dict().items()
        }
        return {_GROUP: tensors} if tensors else {}

    def restore(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load what `state` gave.

        Raises:
            FindingError: KD504 if it does not fit the teachers.
        """
        kept = groups.get(_GROUP, {})
        for name, module in self.changing.items():
            prefix = f"{name}:"
            try:
                module.load_state_dict(
                    {key[len(prefix) :]: value for key, value in kept.items() if key.startswith(prefix)}
                )
            except RuntimeError as error:
                notes = tuple(line.strip() for line in str(error).splitlines()[1:])
                message = f"the weights of teacher `{name}` in the checkpoint do not fit the model"
                raise FindingError(Finding("KD504", message, notes=notes)) from error

    def check(self) -> None:
        """Check that the frozen teachers are as they were.

        Raises:
            FindingError: KD520 for one that has changed: a resumed run would begin with other weights.
        """
        for name, tensors in self._frozen.items():
            if all(_sum(tensor) == before for tensor, before in tensors):
                continue
            distiller = self.stage.distiller.name
            label = Mark(self.stage.at, "changes it", key=True)
            message = f"the weights of teacher `{name}` have changed in stage `{self.stage.name}`, and would be lost if it stopped"
            help_ = f"`needs()` of `{distiller}` has to name it: `Needs(..., changing=({name!r},))`"
            raise FindingError(Finding("KD520", message, *label, help=help_))


def _sum(tensor: Tensor) -> int:
    """A sum over the bits of a tensor, which a change of any weight changes, but for chance."""
    plain = tensor.detach().reshape(-1)
    if not plain.numel():
        return 0
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return int(plain.view(kinds[plain.element_size()]).sum(dtype=torch.int64))


def _sharded(module: nn.Module) -> bool:
    """Whether its weights are divided among processes, which no strategy can change."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())
