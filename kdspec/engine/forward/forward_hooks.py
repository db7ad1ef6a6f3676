"""Where inside a model its features come from, so that they are taken there and nothing else is computed for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

_LAYER = re.compile(r"(?:.*?\.)??[0-9]+(?=\.|$)")


class Complete(Exception):  # noqa: N818 - what happened, not an error
    """Raised within a forward pass when all that is read of it is there."""


@dataclass(frozen=True)
class HookPoint:
    """A tensor that goes into a module or comes out of it."""

    module: str
    """Its name; empty for the model itself."""
    call: int
    """Which of its calls in a forward pass, from 0: layers may share their weights."""
    side: Literal["input", "output"]
    part: int | str | None = None
    """Which argument, or where in a tuple or mapping; None where the tensor is all that comes out."""

    @property
    def layer(self) -> str:
        """The layer that the module belongs to, or the module."""
        found = _LAYER.match(self.module)
        return found[0] if found else self.module


class Trace:
    """Sees one forward pass and knows afterwards where each tensor of its output came up first."""

    def __init__(self) -> None:
        # The tensors are kept, so that no other one is at the same address; their versions tell changes in place.
        self._found: dict[int, tuple[HookPoint, Tensor, int, int]] = {}
        self._begun: list[tuple[str, bool]] = []

    @contextmanager
    def of(self, module: nn.Module) -> Iterator[None]:
        """Around a forward pass of the module."""
        handles = []
        calls: dict[str, int] = {}
        for name, inner in module.named_modules():
            learnt = any(True for _ in inner.parameters(recurse=False))
            handles.append(inner.register_forward_pre_hook(self._before(name, calls, learnt=learnt), with_kwargs=True))
            handles.append(inner.register_forward_hook(self._after(name, calls)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def hook_set(self, value: Any) -> Any:
        """A value of tensors with a tap in place of each.

        Raises:
            LookupError: a tensor came up nowhere, or has been changed since.
        """
        match value:
            case Tensor():
                tap, _, version, _ = self._found[id(value)]
                if value._version != version:  # noqa: SLF001 - torch tells it by no other way
                    raise LookupError(f"{tap.module} changes its tensors in place")
                return tap
            case Mapping():
                return {key: self.hook_set(item) for key, item in value.items()}
            case tuple() | list():
                return tuple(self.hook_set(item) for item in value)
        raise LookupError(f"a {type(value).__name__} is no tensor")

    def last(self, hook_set: Sequence[HookPoint]) -> HookPoint | None:
        """The one that is reached last, where modules with weights of their own come after it."""
        places = {tap: place for tap, _, _, place in self._found.values()}
        last = max(hook_set, key=places.__getitem__)
        after = self._begun[places[last] :]
        return last if any(learnt for _, learnt in after) else None

    def _before(self, name: str, calls: dict[str, int], *, learnt: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            calls[name] = calls.get(name, -1) + 1
            given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
            for part, value in given:
                self._note(value, HookPoint(name, calls[name], "input", part))
            self._begun.append((name, learnt))

        return hook

    def _after(self, name: str, calls: dict[str, int]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del module, args
            parts: Sequence[tuple[int | str | None, Any]]
            match output:
                case Mapping():
                    parts = list(output.items())
                case tuple() | list():
                    parts = list(enumerate(output))
                case _:
                    parts = [(None, output)]
            for part, value in parts:
                self._note(value, HookPoint(name, calls[name], "output", part))

        return hook

    def _note(self, value: Any, tap: HookPoint) -> None:
        if isinstance(value, Tensor) and id(value) not in self._found:
            version = value._version  # noqa: SLF001 - as above
            self._found[id(value)] = (tap, value, version, len(self._begun))


class HookSet:
    """Takes tensors out of forward passes.

    Args:
        module: the model.
        wanted: for each feature a value with taps in place of its tensors.
        stops: whether nothing else of a forward pass is read, so that it may end there.
    """

    def __init__(self, module: nn.Module, wanted: Mapping[str, Any], *, stops: bool) -> None:
        self.wanted, self.stops = wanted, stops
        self._all = frozenset(each(wanted))
        by_module: dict[str, list[HookPoint]] = {}
        for tap in sorted(self._all, key=lambda tap: tap.module):
            by_module.setdefault(tap.module, []).append(tap)
        self._modules = [(module.get_submodule(name), hook_set) for name, hook_set in by_module.items()]

    def run(self, forward: Callable[[], Any]) -> tuple[Any, dict[str, Any] | None]:
        """What the forward pass returns, None where it was ended, and the features; None where one did not come up."""
        taken: dict[HookPoint, Any] = {}
        handles = [handle for module, hook_set in self._modules for handle in self._hooks(module, hook_set, taken)]
        output = None
        try:
            output = forward()
        except Complete:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if len(taken) < len(self._all):
            return output, None
        return output, {name: _filled(value, taken) for name, value in self.wanted.items()}

    def _hooks(self, module: nn.Module, hook_set: Sequence[HookPoint], taken: dict[HookPoint, Any]) -> Iterator[Any]:
        call = [-1]

        def take(side: str, values: Callable[[HookPoint], Any]) -> None:
            for tap in hook_set:
                if tap.side == side and tap.call == call[0]:
                    taken[tap] = values(tap)
            if self.stops and len(taken) == len(self._all):
                raise Complete

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            call[0] += 1
            take("input", lambda tap: args[tap.part] if isinstance(tap.part, int) else kwargs[str(tap.part)])

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del module, args
            take("output", lambda tap: output if tap.part is None else output[tap.part])

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after)


def each(value: Any) -> Iterator[HookPoint]:
    """The taps in a value."""
    if isinstance(value, HookPoint):
        yield value
    else:
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from each(item)


def _filled(value: Any, taken: Mapping[HookPoint, Any]) -> Any:
    if isinstance(value, HookPoint):
        return taken[value]
    if isinstance(value, Mapping):
        return {key: _filled(item, taken) for key, item in value.items()}
    return tuple(_filled(item, taken) for item in value)
