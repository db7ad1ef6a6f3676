"""The optimizer of a stage: its groups, its learning rates, and the proof that no parameter is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from kdspec.context import BuildContext
from kdspec.diagnostics import Diagnostic, DiagnosticError, Label
from kdspec.spec import Training

STUDENT, PROJECTION, OBJECTIVE = "student", "projection", "objective"


class Optimization:
    """The optimizer over student, projections and loss parameters, with learning rates as a function of the step.

    Raises:
        DiagnosticError: KD510 where a parameter of the bundle is in no group.
    """

    def __init__(self, bundle: nn.Module, training: Training, total_steps: int, label: Label) -> None:
        groups = parameter_groups(bundle, label)
        self.names = [group.pop("name") for group in groups]
        self.optimizer: torch.optim.Optimizer = training.optimizer.build(BuildContext())(groups)
        self.base = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.factor = training.lr_schedule.build(BuildContext(total_steps=total_steps))

    def set_rates(self, step: int) -> None:
        """Set the learning rates of the zero-based step `step`."""
        factor = self.factor(step)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each group by its name."""
        groups = self.optimizer.param_groups
        return {name: float(group["lr"]) for name, group in zip(self.names, groups, strict=True)}


def parameter_groups(bundle: nn.Module, label: Label) -> list[dict[str, Any]]:
    """The groups with their names: student, those that the objective asks for, and what else of it can be trained.

    Raises:
        DiagnosticError: KD510 at `label`, where a parameter of the bundle is in no group.
    """
    groups = [{"name": STUDENT, "params": _trainable(bundle.student.parameters())}]  # type: ignore[union-attr]
    objective: Any = bundle.objective
    asked: list[Mapping[str, Any]] = objective.parameter_groups() if hasattr(objective, "parameter_groups") else []
    plain: list[nn.Parameter] = []
    for group in asked:
        options = {key: value for key, value in group.items() if key not in ("name", "params")}
        params = _trainable(group["params"])
        if options and params:
            groups.append({"name": f"{PROJECTION}.{group['name']}", "params": params, **options})
        else:
            plain += params
    taken = {id(p) for group in groups for p in group["params"]} | {id(p) for p in plain}
    rest = [p for p in _trainable(objective.parameters()) if id(p) not in taken]
    groups += [{"name": PROJECTION, "params": plain}] if plain else []
    groups += [{"name": OBJECTIVE, "params": rest}] if rest else []
    _audit(bundle, groups, label)
    return groups


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _audit(bundle: nn.Module, groups: Iterable[Mapping[str, Any]], label: Label) -> None:
    """Nothing that could be trained may stay out of the optimizer: such a parameter would silently never learn."""
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    left_out = [name for name, p in bundle.named_parameters() if p.requires_grad and id(p) not in trained]
    hidden = [name for name in _hidden(bundle.objective) if name[1] not in trained]  # type: ignore[arg-type]
    names = left_out + [name for name, _ in hidden]
    if names:
        message = f"{len(names)} parameter{'s' if len(names) > 1 else ''} would never be trained: `{names[0]}`"
        help_ = "a loss keeps its parameters as attributes of an `nn.Module`, or in an `nn.ParameterList`"
        raise DiagnosticError(Diagnostic("KD510", message, label, help=help_))


def _hidden(objective: nn.Module) -> list[tuple[str, int]]:
    """Parameters that a module keeps in a plain list, tuple or dict, where torch does not see them."""
    found = []
    internal = vars(nn.Module()).keys()
    for prefix, module in objective.named_modules():
        for key, value in vars(module).items():
            items = value.values() if isinstance(value, dict) else value
            if key in internal or not isinstance(items, Iterable) or isinstance(items, (str, torch.Tensor)):
                continue
            if isinstance(value, (list, tuple, dict)):
                name = f"{type(module).__name__}.{key}" if not prefix else f"{prefix}.{key}"
                found += [(name, id(p)) for p in items if isinstance(p, nn.Parameter) and p.requires_grad]
                found += [
                    (name, id(p)) for m in items if isinstance(m, nn.Module) for p in m.parameters() if p.requires_grad
                ]
    return found
