"""The optimizer of a stage: its groups, its learning rates, and a check that no parameter is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from kdspec.api.kinds.context import LrScheduleContext, OptimizerContext
from kdspec.api.kinds.kinds import Optimizer as OptimizerComponent
from kdspec.api.plan.plan import StagePlan
from kdspec.diagnostics.finding import Finding, FindingError, Mark, SpecPath
from kdspec.engine.forward.error_context import OTHER_DEVICE, Asks, error_context
from kdspec.engine.step.trainable import TrainableModule
from kdspec.engine.step.weight_decay import split_groups, undecayed

STUDENT, PROJECTION, OBJECTIVE = "student", "projection", "objective"


class Optimization:
    """The optimizer over student, projections and loss parameters, with learning rates as a function of the step.

    Raises:
        FindingError: KD306 if there is nothing to train, KD510 if a parameter of the trainable module is in no group.
    """

    def __init__(self, stage: StagePlan, trainable: TrainableModule, total_steps: int, processes: int = 1) -> None:
        path = ("stages", stage.name, "training")
        optimizer, schedule = stage.training.optimizer, stage.training.lr_schedule
        at, what = (*path, "optimizer", optimizer.name), f"optimizer `{optimizer.name}`"
        self.guard = error_context(at, what, Asks(f"{what}, for its state of each parameter", OTHER_DEVICE))
        """A context for calls of the optimizer: exceptions become diagnostics."""
        self._scheduling = error_context(
            (*path, "lr_schedule", schedule.name), f"learning-rate schedule `{schedule.name}`"
        )
        groups = parameter_groups(trainable, ("stages", stage.name, "distiller"))
        if not any(group["params"] for group in groups):
            label = Mark(("models", stage.student), "it has no trainable parameters", key=True)
            raise FindingError(Finding("KD306", f"stage `{stage.name}` has nothing to train", *label))
        # By kind of parameter and in the order of the modules: the norm is a sum, so its last bit depends on the order.
        self.student: list[nn.Parameter] = groups[0]["params"]
        self.others: list[nn.Parameter] = [parameter for group in groups[1:] for parameter in group["params"]]
        with self.guard:
            groups = with_decay(groups, trainable, optimizer)
            self.names = [group.pop("name") for group in groups]
            self.optimizer: torch.optim.Optimizer = optimizer.build(OptimizerContext(processes=processes))(groups)
        self.base = [float(group["lr"]) for group in self.optimizer.param_groups]
        with self._scheduling:
            self.factor = schedule.build(LrScheduleContext(total_steps=total_steps))

    def set_rates(self, step: int) -> None:
        """Set the learning rates of the zero-based step `step`."""
        with self._scheduling:
            factor = self.factor(step)
        # Set, not multiplied: a rate is a function of the step alone, so that a resumed run has the same one.
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each group by its name."""
        groups = self.optimizer.param_groups
        return {name: float(group["lr"]) for name, group in zip(self.names, groups, strict=True)}


def parameter_groups(trainable: TrainableModule, at: SpecPath) -> list[dict[str, Any]]:
    """The groups with their names: student, the objective's own groups, and its other trainable parameters.

    Raises:
        FindingError: KD510 at the path `at` if a parameter of the trainable module is in no group.
    """
    groups = [{"name": STUDENT, "params": _trainable(trainable.student.parameters())}]
    plain: list[nn.Parameter] = []
    for group in trainable.objective.parameter_groups():
        options = {key: value for key, value in group.items() if key not in ("name", "params")}
        params = _trainable(group["params"])
        if options and params:
            groups.append({"name": f"{PROJECTION}.{group['name']}", "params": params, **options})
        else:
            plain += params
    taken = {id(p) for group in groups for p in group["params"]} | {id(p) for p in plain}
    rest = [p for p in _trainable(trainable.objective.parameters()) if id(p) not in taken]
    groups += [{"name": PROJECTION, "params": plain}] if plain else []
    groups += [{"name": OBJECTIVE, "params": rest}] if rest else []
    _audit(trainable, groups, at)
    return groups


def with_decay(
    groups: Iterable[Mapping[str, Any]], trainable: TrainableModule, optimizer: OptimizerComponent
) -> list[dict[str, Any]]:
    """The groups for the optimizer: biases and norms apart from the others where it leaves them out of weight decay."""
    return split_groups(groups, undecayed(trainable), optimizer.splits_decay)


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _audit(trainable: TrainableModule, groups: Iterable[Mapping[str, Any]], at: SpecPath) -> None:
    """Check that every trainable parameter is in the optimizer, and every trained one is clipped and saved."""
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    saved = {id(parameter) for parameter in trainable.parameters()}
    names = [name for name, p in trainable.named_parameters() if p.requires_grad and id(p) not in trained]
    names += [name for name, p in _hidden(trainable.objective) if p.requires_grad and id(p) not in trained & saved]
    if names or not trained <= saved:
        what = f": `{names[0]}`" if names else ""
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = f"a parameter would never be {'trained' if names else 'saved'}{what}{others}"
        help_ = "a loss keeps its parameters as attributes of an `nn.Module`, or in an `nn.ParameterList`"
        raise FindingError(Finding("KD510", message, at, help=help_))


def _hidden(objective: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that a module has in a plain list, tuple or dict, where torch does not find them."""
    internal = vars(nn.Module()).keys()
    for prefix, module in objective.named_modules():
        for key, value in vars(module).items():
            if key not in internal and isinstance(value, (list, tuple, dict)):
                name = f"{prefix}.{key}" if prefix else f"{type(module).__name__}.{key}"
                for item in value.values() if isinstance(value, dict) else value:
                    found = item.parameters() if isinstance(item, nn.Module) else [item]
                    yield from ((name, p) for p in found if isinstance(p, nn.Parameter))
