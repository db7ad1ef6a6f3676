"""The caches of a stage's teachers: whether each is cached, and those that are, opened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kdspec.api.cache_settings import TeacherCacheSettings
from kdspec.api.field_path import parse
from kdspec.api.plan import Feature, Plan, TaskPlan
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.loader import Loader
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.processes.backend import Backend
from kdspec.engine.teacher_cache import fingerprint
from kdspec.engine.teacher_cache.cache import CacheUse, TeacherCache
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.layout import Layout
from kdspec.engine.teacher_cache.masks import Masks
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.samples import Samples
from kdspec.engine.teacher_cache.slots import Slot, Uncacheable
from kdspec.engine.teacher_cache.store import Store
from kdspec.engine.teacher_cache.survey import survey
from kdspec.events import CacheState
from kdspec.objectives.reductions import reductions
from kdspec.spec import teacher_cache
from kdspec.spec.teacher_cache import CacheFacts

_SPARE = 1.1
"""Free disk space that is needed, in sizes of the missing samples."""


@dataclass(frozen=True)
class OpenedCaches:
    """The caches of those teachers that are cached, and what was decided for each."""

    caches: Mapping[str, TeacherCache]
    states: tuple[CacheState, ...]


@dataclass(frozen=True)
class CacheOpener:
    """What the caches of a stage depend on.

    Args:
        plan: the plan.
        task: what the stage does with one task.
        loader: its training rows.
        backend: where and how the teachers run.
        epochs: how often the rows are seen; None where the cache is for later runs.
        prepares: whether the strategy makes batches of its own or changes modules.
        reduces: whether it reads teachers by matches alone, so that what is enough for these is enough.
        warn: called with problems that do not stop the run.
    """

    plan: Plan
    task: TaskPlan
    loader: Loader
    backend: Backend
    epochs: float | None
    prepares: bool
    reduces: bool
    warn: Callable[[str], None]

    @property
    def settings(self) -> TeacherCacheSettings:
        """The settings of the stage."""
        return self.task.training.teacher_cache

    @property
    def folder(self) -> Path:
        """Where the caches are."""
        return teacher_cache.root(self.settings, self.plan.source.folder)

    def open(self, teachers: Mapping[str, ModelRunner]) -> OpenedCaches:
        """The caches by the teacher's name.

        Raises:
            FindingError: KD512 where the spec says `on` and a teacher cannot be cached.
        """
        made: dict[str, TeacherCache] = {}
        states = []
        for name, forward in teachers.items():
            if self.settings.use == "off" or not forward.features:  # only its modules are wanted
                continue
            try:
                made[name] = self._cache(forward)
            except Uncacheable as error:
                if self.settings.use == "on":
                    raise self._refused(name, str(error)) from None
                states.append(_unused(self.task.stage, name, reason=str(error)))
            except OSError as error:
                reason = f"the disk refuses: {(error.strerror or str(error)).lower()}"
                self.warn(f"teacher `{name}` is not cached: {reason} in {self.folder}")
                states.append(_unused(self.task.stage, name, reason=reason))
            else:
                states.append(opened(self.task.stage, made[name], made[name].use))
        return OpenedCaches(made, tuple(states))

    def _cache(self, teacher: ModelRunner) -> TeacherCache:
        """The cache of one teacher.

        Raises:
            Uncacheable: it cannot be cached, or it does not pay and the spec says `auto`.
            OSError: the disk cannot be read or written.
        """
        masks = self._masks(teacher)
        enough = reductions(self.task.matches, teacher.name) if self.reduces else ()
        forward = Reducing(teacher, enough, masks.inputs) if enough else teacher
        names = [name for name, feature in forward.features.items() if any(p.root != "batch" for p in feature.paths)]
        facts = CacheFacts(obstacle=self._obstacle(names), epochs=self.epochs)
        self._insist(facts)
        codecs = CodecChoice.of(self.settings, self.task.needs.logits.get(teacher.name))
        seen = survey(forward, names, self.loader, masks, self.backend, codecs)
        facts = replace(facts, flops=seen.flops, row_bytes=seen.row_bytes)
        self._insist(facts)
        if self.loader.rows * seen.row_bytes > 2 * self.settings.bytes:  # clear before every row is looked at
            self._insist(replace(facts, bytes=self.loader.rows * seen.row_bytes))
        if codecs.top_k is not None and not any(codecs.codec(slot).name == "top_k" for slot in seen.slots):
            self.warn(
                f"`top_k` has no effect on teacher `{forward.name}`: keeping all of its logits takes no more room"
            )
        samples = Samples(self.loader, forward.name, forward.inputs, masks)
        layout = Layout(seen.slots, samples.counts, codecs, len(samples.keys))
        self._insist(replace(facts, bytes=layout.bytes))
        folder = self.folder / fingerprint.key(forward, seen.slots, codecs, self._precision())
        store = Store(folder, self._about(forward.name, seen.slots))
        try:
            missing = sum(int(s) for k, s in zip(samples.keys, layout.sizes, strict=True) if k not in store)
            # Samples of other rows of the same teacher may lie there too.
            self._insist(replace(facts, bytes=store.size + missing))
            _check_room(folder, missing)
        except Uncacheable:
            store.close()
            raise
        return TeacherCache(
            forward, samples=samples, layout=layout, store=store, masks=masks,
            autocast=self.backend.autocast, device=self.backend.device, warn=self.warn,
        )  # fmt: skip

    def _obstacle(self, names: list[str]) -> str | None:
        """Why a teacher of which these features are read cannot be cached, whatever it costs."""
        if self.prepares:
            return "the strategy makes its own batches or changes modules"
        if self.backend.divides_teachers:
            return "its weights are divided among the processes"
        task = self.task.task
        if (why := self.plan.spec.tasks[task].varies()) is not None:
            return f"in task `{task}` {why}"
        return None if names else "nothing is read of it but its inputs"

    def _insist(self, facts: CacheFacts) -> None:
        decision = teacher_cache.decide(self.settings, facts, self.backend.device.type)
        if not decision.use:
            raise Uncacheable(decision.reason)

    def _masks(self, forward: ModelRunner) -> Masks:
        """The masks that losses are given are the student's; both models see the same tokens where layers are matched."""
        student = self.task.features[self.task.student]
        inputs = student.get("inputs_mask") or forward.features.get("inputs_mask")
        if inputs is None and not self.task.matches:
            inputs = Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False)
        return Masks(inputs, forward.features.get("logits_mask"))

    def _precision(self) -> str:
        """The arithmetic of the teachers: weights in bf16 give other last digits than autocast, and so do compiled layers."""
        training = self.task.training
        own = training.teacher_precision
        return (training.precision if own is None else f"weights in {own}") + (", compiled" if training.compile else "")

    def _about(self, teacher: str, slots: tuple[Slot, ...]) -> Mapping[str, object]:
        return {
            "format": fingerprint.FORMAT,
            "teacher": teacher,
            "run": self.plan.spec.name,
            "features": list(dict.fromkeys(slot.feature for slot in slots)),
            "dtype": self.settings.dtype,
            "top_k": self.settings.top_k,
            "precision": self._precision(),
        }

    def _refused(self, teacher: str, reason: str) -> FindingError:
        label = Mark(("stages", self.task.stage, "training", "teacher_cache"), "on")
        message = f"teacher `{teacher}` of stage `{self.task.stage}` cannot be cached: {reason}"
        help_ = "`auto` caches where that can be, and tells where not"
        return FindingError(Finding("KD512", message, *label, help=help_))


def _check_room(folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if missing * _SPARE > free:
        raise Uncacheable(f"it would take {missing / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free in {folder}")


def opened(stage: str, cache: TeacherCache, use: CacheUse, step: int = 0) -> CacheState:
    """The state of a cache, with its use by one or all processes."""
    layout, rows = cache.layout, cache.samples.loader.rows
    return CacheState(
        stage=stage,
        step=step,
        teacher=cache.forward.name,
        used=not cache.failed,
        reason="",
        folder=os.fspath(cache.store.folder),
        features=tuple(
            f"{slot.feature}[{slot.index}]" if slot.place == "layer" else slot.feature for slot in layout.slots
        ),
        rows=rows,
        row_bytes=round(layout.mean()),
        bytes=layout.bytes,
        hits=use.hits,
        computed=use.computed,
    )


def _unused(stage: str, teacher: str, *, reason: str) -> CacheState:
    """The state of a teacher that is not cached, and why."""
    return CacheState(
        stage=stage, step=0, teacher=teacher, used=False, reason=reason, folder="", features=(), rows=0, row_bytes=0,
        bytes=0, hits=0, computed=0,
    )  # fmt: skip
