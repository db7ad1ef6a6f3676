"""Decides for each teacher of a stage whether it is cached, and opens the caches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature, Plan, TaskPlan
from kdspec.api.spec.cache_settings import TeacherCacheSettings
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.loader import Loader
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.processes.backend import Backend
from kdspec.engine.teacher_cache import fingerprint
from kdspec.engine.teacher_cache.answered.asked import asked
from kdspec.engine.teacher_cache.answered.piece_answers import ANSWERS, PieceAnswers
from kdspec.engine.teacher_cache.cache import CacheUse, TeacherCache
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.layout import Layout
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

_BUDGET = "raise `budget`, or store less with `dtype` or `top_k`"


@dataclass(frozen=True)
class OpenedCaches:
    """The opened caches, and the decision for each teacher."""

    caches: Mapping[str, TeacherCache]
    states: tuple[CacheState, ...]


@dataclass(frozen=True)
class CacheOpener:
    """Opens the caches of one task of a stage.

    Args:
        plan: the plan.
        task: the plan of one task of the stage.
        loader: its training rows.
        backend: where and how the teachers run.
        epochs: how often each row is read; None if the cache is for later runs.
        prepares: whether the strategy makes its own batches or changes modules.
        reduces: whether it reads teachers only by matches, so that reductions of their layers suffice.
        changing: the teachers whose weights it changes.
        warn: called with problems that do not stop the run.
    """

    plan: Plan
    task: TaskPlan
    loader: Loader
    backend: Backend
    epochs: float | None
    prepares: bool
    reduces: bool
    changing: tuple[str, ...]
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
            FindingError: KD512 if the setting is `on` and a teacher cannot be cached.
        """
        made: dict[str, TeacherCache] = {}
        states = []
        for name, forward in teachers.items():
            if self.settings.use == "off" or not forward.features:  # only its modules are used
                continue
            if not self.plan.spec.models[name].has_weights:
                states.append(_unused(self.task.stage, name, reason="its answers are recorded in the rows"))
                continue
            try:
                made[name] = self._cache(forward, changes=name in self.changing)
            except Uncacheable as error:
                if self.settings.use == "on":
                    raise self._refused(name, error) from None
                states.append(_unused(self.task.stage, name, reason=str(error)))
            except OSError as error:
                reason = f"the disk refuses: {(error.strerror or str(error)).lower()}"
                self.warn(f"teacher `{name}` is not cached: {reason} in {self.folder}")
                states.append(_unused(self.task.stage, name, reason=reason))
            else:
                states.append(opened(self.task.stage, made[name], made[name].use))
        return OpenedCaches(made, tuple(states))

    def _cache(self, teacher: ModelRunner, *, changes: bool) -> TeacherCache:
        """The cache of one teacher.

        Raises:
            Uncacheable: it cannot be cached, or the setting is `auto` and caching does not pay.
            OSError: the disk cannot be read or written.
        """
        read = _of_model(teacher.features)
        obstacle = "the strategy changes its weights" if changes else self._obstacle(read)
        self._insist(CacheFacts(obstacle=obstacle))
        masks = self._masks(teacher)
        enough = reductions(self.task.matches, teacher.name) if self.reduces else ()
        forward, answered, masks = asked(teacher, self.loader, self.backend, masks, enough)
        names = [ANSWERS] if isinstance(forward, PieceAnswers) else _of_model(forward.features)
        epochs = None if self.epochs is None else self.epochs * answered.uses
        facts = CacheFacts(obstacle=obstacle, epochs=epochs)
        self._insist(facts)
        codecs = CodecChoice.of(self.settings, self.task.needs.logits.get(teacher.name))
        seen = survey(forward, names, answered, masks, self.backend, codecs)
        facts = replace(facts, flops=seen.flops, row_bytes=seen.row_bytes)
        self._insist(facts)
        expected = len(answered.lengths) * seen.row_bytes
        if expected > 2 * self.settings.bytes:  # clear without reading every row
            self._insist(replace(facts, bytes=expected))
        if codecs.top_k is not None and not any(codecs.codec(slot).name == "top_k" for slot in seen.slots):
            self.warn(
                f"`top_k` has no effect on teacher `{forward.name}`: storing all of its logits takes no more disk space"
            )
        samples = Samples(answered, forward.inputs, masks)
        layout = Layout(seen.slots, samples.counts, codecs, len(samples.keys))
        self._insist(replace(facts, bytes=layout.bytes))
        folder = self.folder / fingerprint.key(forward, seen.slots, codecs, self._precision())
        store = Store(folder, self._about(forward.name, seen.slots))
        try:
            missing = int(layout.sizes[store.absent(samples.keys.array)].sum())
            # The folder may already have samples of other rows of the same teacher.
            self._insist(replace(facts, bytes=store.size + missing))
            _check_disk_space(folder, missing)
        except Uncacheable:
            store.close()
            raise
        return TeacherCache(
            forward, samples=samples, layout=layout, store=store, masks=masks,
            autocast=self.backend.autocast, device=self.backend.device, warn=self.warn,
        )  # fmt: skip

    def _obstacle(self, names: list[str]) -> str | None:
        """The reason why a teacher cannot be cached with any settings; `names` are the features read from it."""
        if self.prepares:
            return "the strategy makes its own batches or changes modules"
        if self.backend.divides_teachers:
            return "its weights are sharded among the processes"
        task = self.task.task
        if (why := self.plan.spec.tasks[task].varies()) is not None:
            return f"in task `{task}` {why}"
        return None if names else "only its inputs are read"

    def _insist(self, facts: CacheFacts) -> None:
        decision = teacher_cache.decide(self.settings, facts, self.backend.device.type)
        if not decision.use:
            over = facts.bytes is not None and facts.bytes > self.settings.bytes
            raise Uncacheable(decision.reason, _BUDGET if over and facts.obstacle is None else "")

    def _masks(self, forward: ModelRunner) -> Masks:
        """Losses get the student's mask; where layers are matched, both models see the same tokens."""
        student = self.task.features[self.task.student]
        inputs = student.get("inputs_mask") or forward.features.get("inputs_mask")
        if inputs is None and not self.task.matches:
            inputs = Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False)
        return Masks(inputs, forward.features.get("logits_mask"))

    def _precision(self) -> str:
        """The precision of the teachers: bf16 weights and compiled layers give other last digits than autocast."""
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

    def _refused(self, teacher: str, error: Uncacheable) -> FindingError:
        label = Mark(("stages", self.task.stage, "training", "teacher_cache"), "on")
        message = f"teacher `{teacher}` of stage `{self.task.stage}` cannot be cached: {error}"
        auto = "`auto` caches where possible and logs the reason elsewhere"
        help_ = f"{error.help}; {auto}" if error.help else auto
        return FindingError(Finding("KD512", message, *label, help=help_))


def _of_model(features: Mapping[str, Feature]) -> list[str]:
    """The features that are not read from the batch alone."""
    return [name for name, feature in features.items() if any(path.root != "batch" for path in feature.paths)]


def _check_disk_space(folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if missing * _SPARE > free:
        reason = f"it would take {missing / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free in {folder}"
        raise Uncacheable(reason, "free some space there, or name a folder on another disk in `folder`")


def opened(stage: str, cache: TeacherCache, use: CacheUse, step: int = 0) -> CacheState:
    """The event for a cache, with its use by one or all processes."""
    layout, rows = cache.layout, cache.samples.answered.rows
    by_piece = isinstance(cache.forward, PieceAnswers)
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
        row_bytes=round(layout.bytes / rows if by_piece else layout.mean()),
        bytes=layout.bytes,
        hits=use.hits,
        computed=use.computed,
    )


def _unused(stage: str, teacher: str, *, reason: str) -> CacheState:
    """The event for a teacher that is not cached, with the reason."""
    return CacheState(
        stage=stage, step=0, teacher=teacher, used=False, reason=reason, folder="", features=(), rows=0, row_bytes=0,
        bytes=0, hits=0, computed=0,
    )  # fmt: skip
