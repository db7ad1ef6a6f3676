"""One transformers encoder with a head for each of several tasks: the tasks' models share their body."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from kdspec.api.kinds.model import ModelContext
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.hf.embedding.text_embedder import TextEmbedder


def key(task: str) -> str:
    """The module name of a task's model. Module names cannot have dots; task names cannot have slashes."""
    return f"for_{task.replace('.', '/')}"


def alone(context: ModelContext, task: str, on_initialised: Callable[[Collection[str]], None]) -> ModelContext:
    """The context for the model of one of several tasks; `on_initialised` is its own."""
    head = context.heads[task]
    return replace(context, heads={task: head}, head=head, task=task, on_initialised=on_initialised)


def several(context: ModelContext, make: Callable[[ModelContext], nn.Module]) -> nn.ModuleDict:
    """The models of all tasks of the context, with a shared body; `make` builds the model of one."""
    initialised: set[str] = set()
    models = {}
    for task in context.heads:

        def note(names: Collection[str], prefix: str = f"{key(task)}.") -> None:
            initialised.update(prefix + name for name in names)

        models[task] = make(alone(context, task, note))
    module = joined(models)
    context.on_initialised(initialised & dict(module.named_parameters()).keys())
    return module


def joined(models: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """The models of the tasks with one shared body: the one with most modules, as some heads need a pooler.

    Raises:
        Fault: KD503 if a model has no body.
    """
    from torch import nn

    bodies = {task: cast("Any", model).base_model for task, model in models.items()}
    for task, body in bodies.items():
        if body is models[task]:
            raise Fault("KD503", f"a {type(body).__name__} has no body that it could share with other tasks")
    largest = max(bodies.values(), key=lambda body: sum(1 for _ in body.parameters()))
    for model in models.values():
        setattr(model, cast("Any", model).base_model_prefix, largest)
        cast("Any", model).tie_weights()
    return nn.ModuleDict({key(task): model for task, model in models.items()})


def parts(module: nn.Module) -> dict[str, nn.Module]:
    """The models by task if there are several heads; otherwise the module, under the empty name."""
    from torch import nn

    if not isinstance(module, nn.ModuleDict):
        return {"": module}
    return {name.removeprefix("for_").replace("/", "."): model for name, model in module.items()}


def part(module: nn.Module, task: str) -> tuple[str, nn.Module]:
    """The prefix of the tensor names of a task's model, and the model; the first model if the task has none."""
    found = parts(module)
    name = task if task in found else next(iter(found))
    return (f"{key(name)}." if name else ""), found[name]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers; those shared by several heads once, under their first name."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    several = len(parts(module)) > 1
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not several or id(tensor) not in seen:
            found[name] = tensor
        seen.add(id(tensor))
    return found


def load(tasks: Mapping[str, nn.Module], folder: Path) -> None:
    """Load the model, or each task's model from its folder in `folder`."""
    from safetensors.torch import load_model

    for task, model in tasks.items():
        if is_embedder(model):
            model.load_folder(folder / task)
        else:
            # Of several tasks not strict: a pooler that another task's head needs is in that task's folder.
            load_model(model, str(folder / task / "model.safetensors"), strict=len(tasks) == 1)


def is_embedder(model: nn.Module) -> TypeGuard[TextEmbedder]:
    """Whether a model has a readout in place of a head."""
    from kdspec.hf.embedding.text_embedder import TextEmbedder

    return isinstance(model, TextEmbedder)
