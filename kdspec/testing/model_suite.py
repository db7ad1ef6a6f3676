"""The test suite for models: what plan, checkpoints and export rely on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.api.kinds.model import Model, ModelContext
from kdspec.api.working.task import Head
from kdspec.testing.component_suite import check_class

if TYPE_CHECKING:
    from torch import nn


def check_model(component: Model, head: Head = Head(), folder: str | Path = ".") -> None:  # noqa: B008 - frozen
    """Check that a model has the properties that plan, checkpoints and export rely on.

    - The class and its parameters are documented, and its module does not import torch.
    - `facts` is known without torch, and its layers and widths are positive.
    - The same seed gives the same weights, and building does not move the caller's random state.
    - `skeleton` has the parameters of `build`, by name and shape.
    - What `save` writes, `load` brings back bit by bit.

    Args:
        component: the model with its parameters.
        head: the head of a task; by default the bare model.
        folder: where its relative paths start.

    Raises:
        AssertionError: a check fails; the message names it.
    """
    import torch

    check_class(component)
    who = f"{component.words()} `{component.name}`"
    context = ModelContext(
        folder=Path(folder), name="model", head=head, heads={"task": head}, models={"model": component}
    )
    facts = component.facts(context)
    for name in ("layers", "width", "heads", "vocabulary"):
        number = getattr(facts, name)
        assert number is None or number >= (name != "layers"), f"{who}: `facts` has {number} as `{name}`"
    before = torch.random.get_rng_state()
    module, again = _built(component, context), _built(component, context)
    assert torch.equal(before, torch.random.get_rng_state()), f"{who}: `build` moves the random state; seed it within"
    differing = _differing(module, again)
    assert differing is None, (
        f"{who}: `{differing}` differs from time to time; it must depend on the context's seed alone"
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in component.skeleton(context).named_parameters()}
    built = {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}
    assert shapes == built, (
        f"{who}: `skeleton` has other parameters than `build`: {sorted(shapes.items() ^ built.items())}"
    )
    with tempfile.TemporaryDirectory() as place:
        component.save(module, Path(place), context)
        with torch.no_grad():
            for parameter in again.parameters():
                parameter.add_(1)
        component.load(again, Path(place))
    differing = _differing(module, again)
    assert differing is None, f"{who}: `{differing}` is not what `save` has written"


def _built(component: Model, context: ModelContext) -> nn.Module:
    """The module, built as the engine does it: the global generators are seeded and restored."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: nn.Module = component.build(context)
    return module


def _differing(one: nn.Module, other: nn.Module) -> str | None:
    """The first tensor of two modules that is not the same."""
    import torch

    mine, theirs = one.state_dict(), other.state_dict()
    names = (name for name in mine if name not in theirs or not torch.equal(mine[name], theirs[name]))
    return next(names, None)
