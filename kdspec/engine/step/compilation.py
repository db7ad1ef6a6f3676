"""Applies `torch.compile` to parts of a stage's models: layers, or the modules between feature hooks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from kdspec.api.working.batch import Batch
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.shape_check import ROWS
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import Note

RECOMPILATIONS = 32
"""Recompilations of one module's code: all models may share it, with other widths and types, in training and evaluation."""

_HOLDERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Container modules of torch; only the first is called itself."""


class Compilation:
    """Compiles parts of models in place until it is closed; modules and parameter names are unchanged.

    A part is a layer: layers are mostly alike, so that the code of one is compiled for all. A model without layers is one
    part. If feature hooks are inside a layer, the parts are the modules between them: a hook breaks the graph, and hooks
    that are new in each forward pass would cause a recompilation each time.
    """

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._kept: list[tuple[nn.Module, Any]] = []
        """The compiled modules, each with the forward method of its instance, if it had one."""

    def of(self, loop: TrainingLoop, report: Callable[[Note], None]) -> None:
        """Compile the student of a stage and the teachers that are not completely cached, and report the outcome.

        Args:
            loop: the stage, ready to begin.
            report: called with a note on each model.
        """
        from torch._dynamo import config  # the import takes two seconds

        where = f"stage `{loop.stage.name}`"
        if loop.trainable.works_on_models:
            report(Note("warning", f"`compile: true` of {where} has no effect: its strategy changes modules"))
            return
        self._ends.enter_context(config.patch(recompile_limit=RECOMPILATIONS))
        self._ends.enter_context(warnings.catch_warnings())
        # The tracer reads `.grad` of its inputs, which warns for tensors that are not leaves.
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
                    report(Note("info", text))
                except LookupError as error:
                    report(Note("warning", f"`compile: true` of {where} has no effect on `{forward.name}`: {error}"))
        if loop.backend.device.type == "cpu":
            report(
                Note(
                    "info",
                    f"{where}: a CPU is seldom faster with `compile: true`; compare the speed with and without it",
                )
            )

    def _add(self, forward: ModelRunner, run: Callable[[], object]) -> int:
        """Compile the parts of a model, run them once, and return their number.

        Raises:
            LookupError: nothing is compiled, for the reason in its text; the model is then unchanged.
        """
        begun = len(self._kept)
        found = list(parts(forward))
        if not found:
            raise LookupError("it has no part with several operations")
        done = {module for module, _ in self._kept}  # tasks may share modules
        try:
            for part in found:
                if part not in done:
                    own, compiled = part.__dict__.get("forward"), torch.compile(part.forward, dynamic=True)
                    part.forward = compiled
                    self._kept.append((part, own))
            run()
        except (FindingError, RuntimeError) as error:
            # The model has already run with these rows, so the cause is the compiler, which some versions of Python lack.
            self._undo(begun)
            raise LookupError(_reason(error)) from error
        return len(found)

    def close(self) -> None:
        """Restore the original forward methods."""
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
    """The members of module lists; a list inside a list is not entered."""
    for inner in module.children():
        if isinstance(module, nn.ModuleList):
            yield inner
        else:
            yield from _layers(inner)


def _without(module: nn.Module, hooked: Collection[nn.Module]) -> Iterator[nn.Module]:
    if type(module).__module__.startswith("torch.nn.modules") and not isinstance(module, _HOLDERS):
        return  # one operation, so there is nothing to fuse
    whole = not isinstance(module, _HOLDERS[1:])
    if whole and not any(inner in hooked for inner in module.modules() if inner is not module):
        yield module
    else:
        for inner in module.children():
            yield from _without(inner, hooked)


def _reason(error: BaseException | None) -> str:
    """The compiler's error message in one line."""
    while isinstance(error, FindingError):  # the model raised it
        error = error.__cause__
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    if lines[1:] and lines[0].endswith(" raised:"):  # an error of torch that wraps another one
        return lines[1]
    return ": ".join([type(error).__name__, *lines[:1]])
