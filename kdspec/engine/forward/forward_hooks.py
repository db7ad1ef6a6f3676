"""Captures features by forward hooks inside a model, and stops the forward pass after the last one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

_LAYER = re.compile(r"(?:.*?\.)??[0-9]+(?=\.|$)")


class Complete(Exception):  # noqa: N818 - what happened, not an error
    """Raised within a forward pass when all features are captured, to stop it."""


@dataclass(frozen=True)
class HookPoint:
    """A tensor among the inputs or outputs of a module."""

    module: str
    """The module's name; empty for the model itself."""
    call: int
    """The index of the module's call in a forward pass: modules that share weights are called several times."""
    side: Literal["input", "output"]
    part: int | str | None = None
    """The argument, or the place in a tuple or mapping; None if the output is the tensor itself."""

    @property
    def layer(self) -> str:
        """The layer that contains the module, or the module."""
        found = _LAYER.match(self.module)
        return found[0] if found else self.module


class Trace:
    """Records one forward pass, to find where each tensor of its output was first seen."""

    def __init__(self) -> None:
        # Tensors are kept alive, so that no id is reused; their versions reveal in-place changes.
        self._found: dict[int, tuple[HookPoint, Tensor, int, int]] = {}
        self._begun: list[tuple[str, bool]] = []

    @contextmanager
    def of(self, module: nn.Module) -> Iterator[None]:
        """A context around a forward pass of the module."""
        handles = []
        calls: dict[str, int] = {}
        for name, inner in module.named_modules():
            weighted = any(True for _ in inner.parameters(recurse=False))
            before = self._before(name, calls, weighted=weighted)
            handles.append(inner.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(inner.register_forward_hook(self._after(name, calls)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def hook_set(self, value: Any) -> Any:
        """A value with each of its tensors replaced by its hook point.

        Raises:
            LookupError: a tensor is not an input or output of a module, or was changed in place.
        """
        match value:
            case Tensor():
                tap, _, version, _ = self._found[id(value)]
                if value._version != version:  # noqa: SLF001 - there is no public way
                    raise LookupError(f"{tap.module} changes its tensors in place")
                return tap
            case Mapping():
                return {key: self.hook_set(item) for key, item in value.items()}
            case tuple() | list():
                return tuple(self.hook_set(item) for item in value)
        raise LookupError(f"a {type(value).__name__} is not a tensor")

    def last(self, hook_set: Sequence[HookPoint]) -> HookPoint | None:
        """The hook point that is reached last, if modules with weights follow it; otherwise None."""
        places = {tap: place for tap, _, _, place in self._found.values()}
        last = max(hook_set, key=places.__getitem__)
        after = self._begun[places[last] :]
        return last if any(weighted for _, weighted in after) else None

    def _before(self, name: str, calls: dict[str, int], *, weighted: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            calls[name] = calls.get(name, -1) + 1
            given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
            for part, value in given:
                self._note(value, HookPoint(name, calls[name], "input", part))
            self._begun.append((name, weighted))

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
    """Captures tensors of forward passes.

    Args:
        module: the model.
        wanted: for each feature a value with hook points in place of its tensors.
        stops: whether nothing else of the forward pass is read, so that it may stop after the last one.
    """

    def __init__(self, module: nn.Module, wanted: Mapping[str, Any], *, stops: bool) -> None:
        self.wanted, self.stops = wanted, stops
        self._all = frozenset(each(wanted))
        by_module: dict[str, list[HookPoint]] = {}
        for tap in sorted(self._all, key=lambda tap: tap.module):
            by_module.setdefault(tap.module, []).append(tap)
        self._modules = [(module.get_submodule(name), hook_set) for name, hook_set in by_module.items()]

    def run(self, forward: Callable[[], Any]) -> tuple[Any, dict[str, Any] | None]:
        """The output of the forward pass, None if it was stopped, and the features, None if one was not reached."""
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
    """The hook points in a value."""
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
