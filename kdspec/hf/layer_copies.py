"""Initialises a model from layers of another one: pairs their tensors and copies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from pydantic import ConfigDict, Field

from kdspec.api.component import Strict
from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.api.spec.bounds import LayerIndex
from kdspec.diagnostics.fault import Fault
from kdspec.hf import heads

if TYPE_CHECKING:
    from torch import nn

_CODE = "KD311"


class Initialize(Strict):
    """Weights that a new model copies from an existing one; all others are randomly initialised."""

    model_config = ConfigDict(serialize_by_alias=True)

    layers: list[LayerIndex] = Field(min_length=1)
    """The source layer of each layer of the new model, in order. Counted from 0; negative ones from the end."""
    from_: str | None = Field(default=None, alias="from")
    """Name of the model to copy from. Default: the model of `like`."""
    embeddings: bool = True
    """Whether the embeddings are copied; their shapes must be equal."""
    head: bool = True
    """Whether pooler and head are copied, if their shapes are equal."""

    def pairs(self, module: nn.Module, context: ModelContext, like: str | None) -> tuple[str, list[tuple[str, str]]]:
        """The source's name, and the pairs of tensor names in `module` and source. Faults are at keys of this mapping."""
        name = self.from_ or like or ""
        assert name in context.built, f"{name} is built before what is initialised from it"
        source = context.built[name]
        tasks = list(context.heads) if len(context.heads) > 1 else [context.task]
        found: list[tuple[str, str]] = []
        try:
            for task in tasks:
                mine, theirs = heads.part(module, task), heads.part(source, task)
                # A head belongs to one task: of several, only the one that the source was trained on is copied.
                with_head = self.head and (not task or task in context.learns.get(name, ()))
                pairs = initialization(mine[1], theirs[1], self.layers, embeddings=self.embeddings, head=with_head)
                found += [(mine[0] + own, theirs[0] + other) for own, other in pairs]
        except Fault as fault:
            fault.at = ("initialize", *fault.at)
            raise
        once = heads.tensors(module).keys() if len(tasks) > 1 else {own for own, _ in found}
        return name, [pair for pair in found if pair[0] in once]


def initialization(
    student: nn.Module, source: nn.Module, layers: Sequence[int], *, embeddings: bool = True, head: bool = True
) -> list[tuple[str, str]]:
    """The names of the student's tensors that are copied, each with the name of its source tensor.

    Both are transformers models. Student layer i is a copy of source layer `layers[i]`, counted from 0, negative ones from
    the end. Other tensors are copied if the source has one of the same name and shape: always in the body (a final norm),
    with `embeddings` in the embeddings, and with `head` in pooler and head.

    Raises:
        Fault: KD311 if the numbers of layers or the shapes do not fit.
    """
    return _Pairing(student, source).pairs(layers, embeddings=embeddings, head=head)


def mistakes(layers: Sequence[int], student: ModelFacts, source: ModelFacts) -> Iterator[Fault]:
    """The errors that can be found before the models are built."""
    if student.layers is not None and len(layers) != student.layers:
        help_ = "write one source layer for each layer of the student"
        yield Fault(_CODE, _wrong_number(len(layers), student.layers), ("layers",), help=help_)
    for position, layer in enumerate(layers):
        if source.layers is not None and not -source.layers <= layer < source.layers:
            yield _no_such_layer(layer, source.layers, ("layers", position))
    if None not in (student.width, source.width) and student.width != source.width:
        message = f"the student is {student.width} wide, the source of its layers {source.width}"
        yield Fault(_CODE, message, ("layers",), help="only layers of the same widths can be copied")


def copy(student: nn.Module, source: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Copy the source's tensors into the student's; they are converted to the student's dtype."""
    import torch

    mine, theirs = student.state_dict(), source.state_dict()
    with torch.no_grad():
        for name, origin in pairs:
            mine[name].copy_(theirs[origin])


def lists_of_layers(module: nn.Module) -> list[str]:
    """The names of the lists of hidden layers, each with a trailing dot: one, or two in an encoder-decoder."""
    from torch import nn

    depth = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    found: list[str] = []
    for name, inner in module.named_modules():
        stack = isinstance(inner, nn.ModuleList) and len(inner) == depth and any(inner.state_dict())
        if stack and not name.startswith(tuple(found)):  # a list within a layer is not the list of layers
            found.append(f"{name}.")
    return found


class _Side:
    """A model under canonical names, which are relative to its body: models with and without a head can be compared."""

    def __init__(self, module: nn.Module) -> None:
        from torch import nn

        state, config = module.state_dict(), cast("Any", module.config)
        prefix = getattr(module, "base_model_prefix", "")
        self._inside = f"{prefix}." if prefix and hasattr(module, prefix) else ""
        self.family: str = config.model_type
        self.names = {self._canonical(name): name for name in state}
        self.shapes = {canonical: tuple(state[name].shape) for canonical, name in self.names.items()}
        self._lookups = tuple(
            f"{self._canonical(name)}." for name, inner in module.named_modules() if isinstance(inner, nn.Embedding)
        )
        self.depth: int = config.num_hidden_layers
        self.lists = [self._canonical(name) for name in lists_of_layers(module)]
        if not self.lists:
            raise Fault(_CODE, f"the {self.family} model has no list of {self.depth} layers to copy from or to")

    def _canonical(self, name: str) -> str:
        """`body.` and the name within the body, or `head.` and the name outside it."""
        if name.startswith(self._inside):
            return f"body.{name.removeprefix(self._inside)}"
        return f"head.{name}"

    def layer(self, stack: str, index: int) -> dict[str, str]:
        """The canonical names of a layer's tensors by their names within the layer."""
        start = f"{stack}{index}."
        return {canonical.removeprefix(start): canonical for canonical in self.names if canonical.startswith(start)}

    def part(self, canonical: str) -> str:
        """The part of a tensor outside the layers: `embeddings`, `head` (with the pooler) or `body`."""
        if canonical.startswith("head.") or "pooler" in canonical.split("."):
            return "head"
        if canonical.startswith(self._lookups) or any("embed" in word for word in canonical.split(".")):
            return "embeddings"
        return "body"


class _Pairing:
    def __init__(self, student: nn.Module, source: nn.Module) -> None:
        self.student, self.source = _Side(student), _Side(source)

    def pairs(self, layers: Sequence[int], *, embeddings: bool, head: bool) -> list[tuple[str, str]]:
        student, source = self.student, self.source
        if len(layers) != student.depth:
            raise Fault(_CODE, _wrong_number(len(layers), student.depth), ("layers",))
        stacks = self._stacks()
        found = [
            pair
            for position, layer in enumerate(layers)
            for stack in stacks
            for pair in self._layer(stack, position, layer)
        ]
        wanted = {"body", *(["embeddings"] if embeddings else []), *(["head"] if head else [])}
        for name, shape in student.shapes.items():
            part = student.part(name)
            if name.startswith(stacks) or part not in wanted or name not in source.shapes:
                continue
            if shape == source.shapes[name]:
                found.append((name, name))
            elif part == "embeddings":
                raise Fault(
                    _CODE,
                    f"`{student.names[name]}` is {list(shape)} in the student and {list(source.shapes[name])} in the source",
                    ("embeddings",),
                    help="set `embeddings: false` to initialise them randomly",
                )
        return [(student.names[mine], source.names[theirs]) for mine, theirs in found]

    def _stacks(self) -> tuple[str, ...]:
        """The lists of layers of both models; an encoder-decoder has two, which may differ in length."""
        both = tuple(stack for stack in self.student.lists if stack in self.source.lists)
        if not both:
            families = f"a {self.student.family} student cannot be initialised from a {self.source.family} model"
            raise Fault(_CODE, families, ("from",))
        return both

    def _layer(self, stack: str, position: int, layer: int) -> list[tuple[str, str]]:
        depth, at = self.source.depth, ("layers", position)
        if not -depth <= layer < depth:
            raise _no_such_layer(layer, depth, at)
        layer %= depth
        to, origin = self.student.layer(stack, position), self.source.layer(stack, layer)
        for name in sorted(to.keys() ^ origin.keys()):
            has, lacks = ("student", "source") if name in to else ("source", "student")
            number = {"student": position, "source": layer}
            raise Fault(
                _CODE,
                f"layer {number[has]} of the {has} has `{name}`, layer {number[lacks]} of the {lacks} has not",
                at,
            )
        for name, canonical in to.items():
            shape, other = self.student.shapes[canonical], self.source.shapes[origin[name]]
            if shape != other:
                raise Fault(
                    _CODE,
                    f"`{self.student.names[canonical]}` is {list(shape)} in the student and {list(other)} in the source",
                    at,
                    help="only layers of the same widths can be copied",
                )
        return [(to[name], origin[name]) for name in to]


def _wrong_number(given: int, needed: int) -> str:
    return f"{_count(given)} for a student with {_count(needed)}"


def _no_such_layer(layer: int, depth: int, at: tuple[str | int, ...]) -> Fault:
    message = f"layer {layer} of a model with {_count(depth)}"
    return Fault(_CODE, message, at, help=f"layers are counted from 0 to {depth - 1}")


def _count(layers: int) -> str:
    return f"{layers} layer{'' if layers == 1 else 's'}"
