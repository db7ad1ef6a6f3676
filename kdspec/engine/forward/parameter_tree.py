"""The parameters of a model as a tree of its modules: numbers, memory, and shared tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn

from kdspec.api.plan.plan import Plan
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.hf import loading


@dataclass(frozen=True)
class ModulePart:
    """A module or a tensor in one. A shared tensor is counted at its first place."""

    name: str
    parameters: int
    """Number of elements of its parameters."""
    buffers: int
    """Number of elements of its buffers, such as running means, which are not trained."""
    bytes: int
    shared: str | None = None
    """The place where a shared tensor is counted."""
    parts: tuple[ModulePart, ...] = ()

    @property
    def count(self) -> int:
        """Parameters and buffers together."""
        return self.parameters + self.buffers


def tree(module: nn.Module, name: str = "model") -> ModulePart:
    """The tree of a module, in the order of its definition."""
    return _part(module, name, "", {})


def from_folder(place: str, *, trusts_code: bool = False) -> nn.Module:
    """The model of a folder or hub name with its saved head, on the meta device: no weights are read.

    Raises:
        Fault: there is no configuration, or the library does not have such a model.
    """
    with loading.quiet(), loading.explained((), f"`{place}` cannot be loaded"):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=trusts_code)
        options: dict[str, Any] = {"dtype": config.dtype or torch.float32}
        known = (getattr(transformers, name, None) for name in config.architectures or ())
        own: Any = next((class_ for class_ in known if hasattr(class_, "_from_config")), None)
        # A class of the library has no public method for this; AutoModel would drop the head.
        make = own._from_config if own is not None else None  # noqa: SLF001
        if make is None:
            brought = (name for name in getattr(config, "auto_map", {}) if name.startswith("AutoModel"))
            make = getattr(transformers, next(brought, "AutoModel")).from_config
            options["trust_remote_code"] = trusts_code
        with torch.device("meta"):
            return cast("nn.Module", make(config, **options))


def from_plan(plan: Plan, name: str) -> nn.Module:
    """A model of a spec with its task's head, with labels from the data; weights are loaded only if necessary."""
    heads = {task: built(plan, task).head for task in plan.spec.tasks}
    models = Models(plan, heads, {})
    with error_context(models.path(name), f"model `{name}`"):
        return plan.spec.models[name].skeleton(models.context(name))


def _part(module: nn.Module, name: str, path: str, seen: dict[Any, str]) -> ModulePart:
    parts = [_tensor(tensor, own, f"{path}{own}", seen, trained=trained) for own, tensor, trained in _own(module)]
    # `named_children` would skip a module that occurs twice.
    children = module._modules.items()  # noqa: SLF001
    inner = [_part(child, own, f"{path}{own}.", seen) for own, child in children if child is not None]
    parts += [part for part in inner if part.parts]  # a dropout or an activation has no tensors
    return ModulePart(
        name,
        sum(part.parameters for part in parts),
        sum(part.buffers for part in parts),
        sum(part.bytes for part in parts),
        parts=tuple(parts),
    )


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        yield name, parameter, True
    for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        yield name, buffer, False


def _tensor(tensor: Tensor, name: str, path: str, seen: dict[Any, str], *, trained: bool) -> ModulePart:
    # A meta tensor has no address, so its storage object is its identity.
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001
    key = (storage, tensor.storage_offset(), tensor.shape)
    first = seen.setdefault(key, path)
    if first != path and tensor.numel():
        return ModulePart(name, 0, 0, 0, shared=first)
    count = tensor.numel()
    return ModulePart(name, count * trained, count * (not trained), count * tensor.element_size())
