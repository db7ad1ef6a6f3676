"""The parts of a stage's models that `torch.compile` has: layers, or what is between the places of features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from kdspec.api.batch import Batch
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.shape_check import ROWS
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import Note

RECOMPILATIONS = 32
"""Of one module's code: all models may share it, each with its width and type, for training and for evaluation."""

_HOLDERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Modules of torch that have others inside; only the first is called itself."""


class Compilation:
    """Compiles parts of models in place until it is closed; the modules and the names of their weights stay as they are.

    A part is a layer, for they are mostly alike, so that one of them is compiled for all; or the model where it has none.
    Where hooks are inside, which take features from there, it is the modules between them: a hook ends what can be compiled
    in one piece, and those that are others in each forward pass would have it compiled anew each time.
    """

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._kept: list[tuple[nn.Module, Any]] = []
        """What is compiled, with the forward method that it had of its own, if any."""

    def of(self, loop: TrainingLoop, tell: Callable[[Note], None]) -> None:
        """Compile the student of a stage, and the teachers that are not cached already, and tell what has become of it.

        Args:
            loop: the stage, ready to begin.
            tell: told in notes.
        """
        from torch._dynamo import config  # two seconds

        where = f"stage `{loop.stage.name}`"
        if loop.trainable.works_on_models:
            tell(Note("warning", f"`compile: true` of {where} has no effect: its strategy changes modules as it goes"))
            return
        self._ends.enter_context(config.patch(recompile_limit=RECOMPILATIONS))
        self._ends.enter_context(warnings.catch_warnings())
        # The tracer looks at whatever its inputs have.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", UserWarning)
        for task_inputs in loop.inputs_of.values():
            complete = {name for name, cache in task_inputs.caches.items() if cache.complete}
            teachers = task_inputs.teachers.items()
            running = [teacher for name, teacher in teachers if teacher.features and name not in complete]
            batches = task_inputs.loader.to_device(
                task_inputs.loader.batches(list(range(min(ROWS, task_inputs.loader.rows))))
            )
            for forward in (task_inputs.student, *running):
                try:
                    count = self._add(forward, partial(_run, loop, forward, batches[forward.name]))
                    many = "one part is" if count == 1 else f"{count} parts are"
                    text = f"{where}, `{forward.name}`: {many} compiled in the first steps, which takes a while"
                    tell(Note("info", text))
                except LookupError as error:
                    tell(Note("warning", f"`compile: true` of {where} has no effect on `{forward.name}`: {error}"))
        if loop.backend.device.type == "cpu":
            tell(
                Note("info", f"{where}: a processor is seldom faster with `compile: true`; compare some steps without")
            )

    def _add(self, forward: ModelRunner, run: Callable[[], object]) -> int:
        """Compile the parts of a model, and try them; how many there are.

        Raises:
            LookupError: why nothing is compiled; then the model is as it was.
        """
        begun = len(self._kept)
        found = list(parts(forward))
        if not found:
            raise LookupError("it is made of single operations")
        done = {module for module, _ in self._kept}  # of what several tasks share
        try:
            for part in found:
                if part not in done:
                    own, compiled = part.__dict__.get("forward"), torch.compile(part.forward, dynamic=True)
                    part.forward = compiled
                    self._kept.append((part, own))
            run()
        except (FindingError, RuntimeError) as error:
            # The model has run with these rows before, so that it is the compiler that fails; of some versions of Python
            # it has none.
            self._undo(begun)
            raise LookupError(_reason(error)) from error
        return len(found)

    def close(self) -> None:
        """Have all modules run as they did."""
        if self._kept:
            self._undo(0)
            torch.compiler.reset()
        self._ends.close()

    def _undo(self, start: int) -> None:
        for module, own in self._kept[start:]:
            del module.forward
            if own is not None:
                module.forward = own
        del self._kept[start:]


def _run(loop: TrainingLoop, forward: ModelRunner, batch: Batch) -> None:
    with isolated_random(), frozen(forward.module), loop.backend.autocast():
        loop.backend.evaluate(loop.trainable, partial(forward, batch))


def parts(forward: ModelRunner) -> Iterator[nn.Module]:
    """The largest modules within layers, or within a model without layers, that have no hooks inside."""
    modules = dict(forward.module.named_modules())
    hooked = {modules[name] for name in forward.watched if name in modules}
    # transformers has hooks of its own where it gathers hidden states.
    hooked |= {module for module in modules.values() if module._forward_hooks or module._forward_pre_hooks}  # noqa: SLF001
    for module in list(_layers(forward.module)) or [forward.module]:
        yield from _without(module, hooked)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """What is in lists of modules, lists in lists left out."""
    for inner in module.children():
        if isinstance(module, nn.ModuleList):
            yield inner
        else:
            yield from _layers(inner)


def _without(module: nn.Module, hooked: Collection[nn.Module]) -> Iterator[nn.Module]:
    if type(module).__module__.startswith("torch.nn.modules") and not isinstance(module, _HOLDERS):
        return  # nothing to put together
    whole = not isinstance(module, _HOLDERS[1:])
    if whole and not any(inner in hooked for inner in module.modules() if inner is not module):
        yield module
    else:
        for inner in module.children():
            yield from _without(inner, hooked)


def _reason(error: BaseException | None) -> str:
    """What the compiler said, in one line."""
    while isinstance(error, FindingError):  # the model raised it
        error = error.__cause__
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    if lines[1:] and lines[0].endswith(" raised:"):  # torch's own error, of another one
        return lines[1]
    return ": ".join([type(error).__name__, *lines[:1]])
