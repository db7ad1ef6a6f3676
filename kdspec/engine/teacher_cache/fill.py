"""Fills the teacher caches of a plan before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.teacher_cache.open_cache import opened
from kdspec.events import CacheState, Event, Note
from kdspec.registry.registry import Registry


def fill(
    plan: Plan,
    registry: Registry,
    *,
    output: Path,
    device: str | None,
    emit: Callable[[Event], None],
    progress: Callable[[CacheState, int, int], None],
) -> Iterator[CacheState]:
    """Run every frozen teacher for all rows of its stages, except stages with `off`.

    Args:
        plan: the plan.
        registry: its components.
        output: the folder of the runs; a teacher trained by an earlier stage is loaded from there.
        device: where to compute; by default the first GPU, or the CPU if there is none.
        emit: called with notes.
        progress: called with a cache, the number of samples done, and their total.

    Raises:
        FindingError: KD512 if a teacher cannot be cached or has not been trained yet.
    """
    folder = RunFolder(output / plan.spec.name)
    finished = folder.finished(list(plan.spec.stages))
    tasks = built_tasks(plan)
    students = {stage.name: stage.student for stage in plan.stages}
    trained = {students[name]: folder.path / event.folder for name, event in finished.items()}
    heads = {name: task.head for name, task in tasks.items()}
    before: set[str] = set()
    for stage in plan.stages:
        if stage.teachers and stage.training.teacher_cache.use != "off":
            for name in before & set(stage.teachers):
                raise _untrained(stage, name)
            models = Models(plan, heads, {name: path for name, path in trained.items() if name in stage.teachers})
            backend = SingleProcess(
                device or ("cuda" if torch.cuda.is_available() else "cpu"), stage.training.precision
            )
            setup = StageSetup(
                plan=plan, stage=_insisting(stage), registry=registry, models=models,
                tasks={name: tasks[name] for name in stage.tasks}, folder=folder, backend=backend,
            )  # fmt: skip
            built_stage = build_stage(setup, backend.world, warn=lambda text: emit(Note("warning", text)))
            for cache in built_stage.loop.caches:
                for block in range(cache.samples.blocks):
                    if not cache.fill([block]):
                        break
                    done = cache.samples.block(block).stop
                    progress(opened(stage.name, cache, cache.use), done, len(cache.samples.keys))
                cache.close()
                yield opened(stage.name, cache, cache.use)
        if stage.name not in finished:
            before.add(stage.student)


def _insisting(stage: StagePlan) -> StagePlan:
    """The stage with its cache `on`: it is filled for later runs, even if it does not pay in this one."""
    settings = stage.training.teacher_cache.model_copy(update={"use": "on"})
    training = stage.training.model_copy(update={"teacher_cache": settings})
    return stage.trained(training)


def _untrained(stage: StagePlan, teacher: str) -> FindingError:
    label = Mark(("stages", stage.name), f"learns from `{teacher}`", key=True)
    message = f"teacher `{teacher}` cannot be cached yet: an earlier stage trains it and has not been run"
    return FindingError(Finding("KD512", message, *label, help="`kdspec run` fills the cache after that stage"))
