"""An optimizer's state as named tensors and JSON, independent of the order of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import BaseModel, JsonValue
from torch import Tensor
from torch.optim import Optimizer

from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.source.read_back import Count, Damage, Form


class _Group(BaseModel):
    parameters: list[str]
    options: dict[str, JsonValue]


class _Entries(BaseModel):
    shape: list[Count]
    entries: dict[str, JsonValue]


class _Scalars(BaseModel):
    kind: str
    groups: list[_Group]
    state: dict[str, _Entries]


_FORM: Form[_Scalars] = Form(_Scalars)

_HOW = frozenset({"fused", "foreach"})
"""Options for the implementation of an update: they belong to the current processes, not to the checkpoint."""


def flatten(
    optimizer: Optimizer, names: Mapping[Tensor, str], whole: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State tensors under `<parameter>/<entry>`, and all else as JSON data.

    `names` has the name of every parameter; `whole` gathers a sharded tensor. Raises KD508 if the state has something that
    is neither a tensor nor plain data.
    """
    kind = type(optimizer).__name__
    found: dict[str, Tensor] = {}
    groups = [
        {
            "parameters": [names[parameter] for parameter in group["params"]],
            "options": {key: _encode(value, f"groups/{index}/{key}", found, kind) for key, value in _options(group)},
        }
        for index, group in enumerate(optimizer.param_groups)
    ]
    state = {}
    for parameter in _parameters(optimizer):
        name = names[parameter]
        # Not optimizer.state[parameter]: it is a defaultdict, and optimizers treat an existing entry as initialised state.
        entries = optimizer.state.get(parameter, {})
        state[name] = {
            "shape": list(parameter.shape),
            "entries": {key: _encode(value, f"{name}/{key}", found, kind) for key, value in entries.items()},
        }
    return {place: whole(tensor) for place, tensor in found.items()}, {"kind": kind, "groups": groups, "state": state}


def restore(
    optimizer: Optimizer,
    names: Mapping[Tensor, str],
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Any],
    *,
    options: bool = True,
    part: Callable[[Tensor, Tensor], Tensor] = lambda tensor, parameter: tensor,  # noqa: ARG005 - the seam
) -> None:
    """Restore the output of `flatten`, bit for bit. Parameters and groups are matched by name.

    Without `options` the groups may be others, and keep their current options. `part` gives this process's shard of a whole tensor, according
    to the shard of its parameter.

    Raises KD504 if the optimizer is of another kind, its groups differ, or a parameter or tensor is missing, superfluous,
    or of another shape; the optimizer is then unchanged.
    """
    kind = type(optimizer).__name__
    try:
        _FORM.of(scalars)
    except Damage as damage:
        raise _unfit(f"it is damaged: {damage}") from damage
    if scalars["kind"] != kind:
        raise _unfit(f"it is of the optimizer `{scalars['kind']}`, not `{kind}`")
    by_name = {names[parameter]: parameter for parameter in _parameters(optimizer)}
    _same(by_name, scalars["state"], "parameter")
    used: set[str] = set()
    saved = {
        frozenset(group["parameters"]): {key: _decode(value, tensors, used) for key, value in group["options"].items()}
        for group in scalars["groups"]
    }
    found = [_saved_options(group, names, saved) for group in optimizer.param_groups] if options else []
    state = {}
    for name, parameter in by_name.items():
        record = scalars["state"][name]
        if record["shape"] != list(parameter.shape):
            raise _unfit(f"parameter `{name}` has the shape {record['shape']} there, and {list(parameter.shape)} here")
        state[name] = {key: _decode(value, tensors, used) for key, value in record["entries"].items()}
    _same(used, tensors, "tensor")
    optimizer.state.clear()
    for group, values in zip(optimizer.param_groups, found, strict=False):
        group.update({key: value for key, value in values.items() if key not in _HOW})
    for group in optimizer.param_groups:
        # A step counter on the CPU needs no synchronisation; torch keeps it on the device only for kernels that read it.
        on_device = group.get("capturable") or group.get("fused")
        for parameter in group["params"]:
            if entries := state[names[parameter]]:
                moved = {
                    key: _moved(value, torch.device("cpu") if key == "step" and not on_device else parameter.device)
                    for key, value in entries.items()
                }
                optimizer.state[parameter] = {
                    key: part(value, parameter) if isinstance(value, Tensor) else value for key, value in moved.items()
                }


def _saved_options(
    group: Mapping[str, Any], names: Mapping[Tensor, str], saved: Mapping[frozenset[str], dict[str, Any]]
) -> dict[str, Any]:
    members = frozenset(names[parameter] for parameter in group["params"])
    if members not in saved:
        raise _unfit(f"the parameters `{'`, `'.join(sorted(members)[:3])}`, … do not form a group in it")
    # A newer torch may have options that the saved group lacks; they keep their defaults.
    _same(saved[members].keys() & group.keys(), saved[members], "option")
    for key, value in saved[members].items():
        if key not in _HOW and not _alike(value, group[key]):
            raise _unfit(f"the option `{key}` is `{excerpt(str(value))}` in it, not of the type of `{group[key]}`")
    return saved[members]


def _alike(saved: Any, here: Any) -> bool:
    """Whether an option may replace another one: numbers replace numbers, and sequences those of the same length."""
    if saved is None or here is None:
        return True
    if isinstance(saved, tuple | list):
        return isinstance(here, tuple | list) and len(saved) == len(here) and all(map(_alike, saved, here))
    of = [
        bool if isinstance(each, bool) else float if isinstance(each, int | float) else type(each)
        for each in (saved, here)
    ]
    return of[0] is of[1] or {*of} == {float, Tensor}  # a capturable optimizer has its rate as a tensor


def _options(group: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in group.items() if key != "params"]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _encode(value: object, place: str, tensors: dict[str, Tensor], kind: str) -> object:
    """JSON for `value`: containers and tensors are marked by a one-key mapping, since JSON has no tuples."""
    match value:
        case Tensor():
            tensors[place] = value.detach()
            return {"tensor": place}
        case tuple() | list():
            items = [_encode(item, f"{place}/{index}", tensors, kind) for index, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        case dict() if all(isinstance(key, str) for key in value):
            return {"dict": {key: _encode(item, f"{place}/{key}", tensors, kind) for key, item in value.items()}}
        case None | bool() | int() | float() | str():
            return value
    raise FindingError(
        Finding(
            "KD508",
            f"cannot write the state of the optimizer `{kind}`: `{place}` is a `{type(value).__name__}`",
            notes=("a checkpoint can have tensors, numbers and strings, but no pickles",),
        )
    )


def _decode(value: Any, tensors: Mapping[str, Tensor], used: set[str]) -> Any:
    match value:
        case {"tensor": str(place)}:
            if place not in tensors:
                raise _unfit(f"it lacks the tensor `{place}`")
            used.add(place)
            return tensors[place]
        case {"tuple": list(items)}:
            return tuple(_decode(item, tensors, used) for item in items)
        case {"list": list(items)}:
            return [_decode(item, tensors, used) for item in items]
        case {"dict": dict(items)}:
            return {key: _decode(item, tensors, used) for key, item in items.items()}
    return value


def _moved(value: Any, device: torch.device) -> Any:
    match value:
        case Tensor():
            # A copy: the optimizer updates its state in place, and the checkpoint's tensors may be used again.
            return value.detach().to(device, copy=True)
        case tuple() | list():
            return type(value)(_moved(item, device) for item in value)
        case dict():
            return {key: _moved(item, device) for key, item in value.items()}
    return value


def _same(here: Any, there: Any, noun: str) -> None:
    for name in sorted(set(here) ^ set(there)):
        raise _unfit(f"{noun} `{name}` is {'not in it' if name in here else 'in it, but not here'}")


def _unfit(reason: str) -> FindingError:
    return FindingError(Finding("KD504", f"the optimizer's state in the checkpoint does not fit: {reason}"))
