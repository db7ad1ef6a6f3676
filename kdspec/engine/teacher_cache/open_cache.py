"""Whether a stage's teachers are cached, and the caches of those that are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdspec.api.field_path import parse
from kdspec.api.step import Features
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random, reseed
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.processes.backend import Backend
from kdspec.engine.teacher_cache import fingerprint
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.engine.teacher_cache.codec import Codec
from kdspec.engine.teacher_cache.layout import CacheRows, Counts, Layout, Masks, lengths
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import Sight, Slot, Uncacheable, survey, tensors
from kdspec.engine.teacher_cache.store import DATA, Store
from kdspec.events import CacheState
from kdspec.objectives.reductions import reductions
from kdspec.plan.plan import Feature, Plan, PlannedStage
from kdspec.spec import teacher_cache

_SAMPLE = 64
"""Rows by whose lengths the size of a row is judged before all of them are looked at."""
_SPARE = 1.1
"""Room that must be free on the disk, in sizes of what is still missing."""


@dataclass(frozen=True)
class CacheOpener:
    """What the caches of a stage depend on.

    Args:
        plan: the plan.
        stage: the stage.
        feed: its training rows.
        backend: where and how the teachers run.
        epochs: how often the rows are seen; None where the cache is for later runs.
        prepares: whether the strategy makes batches of its own or changes modules.
        reduces: whether it reads teachers by matches alone, so that what is enough for these is enough.
        warn: told of what goes wrong without stopping anything.
    """

    plan: Plan
    stage: PlannedStage
    loader: Loader
    backend: Backend
    epochs: float | None
    prepares: bool
    reduces: bool
    warn: Callable[[str], None]
    found: list[CacheState] = field(default_factory=list)
    """What was decided for each teacher."""

    @property
    def settings(self) -> teacher_cache.TeacherCacheSettings:
        """What the spec says."""
        return self.stage.training.teacher_cache

    def caches(self, teachers: Mapping[str, ModelRunner]) -> dict[str, TeacherCache]:
        """The caches by the teacher's name, of those teachers that are cached.

        Raises:
            FindingError: KD512 where the spec says `on` and a teacher cannot be cached.
        """
        if self.settings.use == "off":
            return {}
        made = {}
        for name, forward in teachers.items():
            if not forward.features:  # only its modules are wanted
                continue
            try:
                made[name] = self.cache(forward)
            except Uncacheable as error:
                if self.settings.use == "on":
                    raise self._refused(name, str(error)) from None
                self.found.append(state(self.stage.name, name, reason=str(error)))
            except OSError as error:
                reason = f"the disk refuses: {(error.strerror or str(error)).lower()}"
                self.warn(f"teacher `{name}` is not cached: {reason} in {self.folder}")
                self.found.append(state(self.stage.name, name, reason=reason))
            else:
                self.found.append(opened(self.stage.name, made[name]))
        return made

    def cache(self, teacher: ModelRunner) -> TeacherCache:
        """The cache of one teacher.

        Raises:
            Uncacheable: it cannot be cached, or it does not pay and the spec leaves that to us.
            OSError: the disk refuses.
        """
        auto = self.settings.use == "auto"
        masks = self._masks(teacher)
        enough = reductions(self.stage.matches, teacher.name) if self.reduces else ()
        forward = Reducing(teacher, enough, masks.inputs) if enough else teacher
        if self.prepares or self.backend.divides_teachers:
            reason = "the strategy makes its own batches or changes modules"
            raise Uncacheable(reason if self.prepares else "its weights are divided among the processes")
        for task in self.stage.tasks:
            if (why := self.plan.spec.tasks[task].varies()) is not None:
                raise Uncacheable(f"in task `{task}` {why}")
        if auto and self.epochs is not None and self.epochs <= 1:
            raise Uncacheable("each row is seen once")
        names = [name for name, feature in forward.features.items() if any(p.root != "batch" for p in feature.paths)]
        if not names:
            raise Uncacheable("nothing is read of it but its inputs")
        codec = Codec(self.settings.dtype, self.settings.top_k)
        slots, flops = self._survey(forward, names, masks)
        sample = self._sample(forward, masks)
        size = Layout(slots, sample, codec, len(next(iter(sample.values()), [0]))).mean()
        if auto and not teacher_cache.pays(flops, size, self.backend.device.type):
            raise Uncacheable("running it takes no longer than reading")
        if self.loader.rows * size > 2 * self.settings.bytes:
            raise Uncacheable(self._too_large(self.loader.rows * size))
        if codec.top_k is not None and not any(codec.kind(slot) == "top_k" for slot in slots):
            self.warn(
                f"`top_k` has no effect on teacher `{forward.name}`: keeping all of its logits takes no more room"
            )
        rows = CacheRows(self.loader, forward.name, forward.inputs, masks)
        layout = Layout(slots, rows.counts, codec, self.loader.rows)
        if layout.bytes > self.settings.bytes:
            raise Uncacheable(self._too_large(layout.bytes))
        training = self.stage.training
        # Weights in bf16 give other last digits than autocast does, and so do compiled layers.
        own = training.teacher_precision
        precision = training.precision if own is None else f"weights in {own}"
        precision += ", compiled" if training.compile else ""
        key = fingerprint.key(forward, rows.digest, slots, codec, precision)
        folder = self.folder / key
        self._check_room(folder, layout.bytes)
        about = {
            "format": fingerprint.FORMAT,
            "teacher": forward.name,
            "run": self.plan.spec.name,
            "features": list(dict.fromkeys(slot.feature for slot in slots)),
            "dtype": self.settings.dtype,
            "top_k": self.settings.top_k,
            "precision": precision,
            "rows": self.loader.rows,
            "bytes": layout.bytes,
        }
        return TeacherCache(
            forward, rows=rows, layout=layout, store=Store(folder, layout.blocks(rows), about), masks=masks,
            autocast=self.backend.autocast, device=self.backend.device, warn=self.warn,
        )  # fmt: skip

    @property
    def folder(self) -> Path:
        """Where the caches are."""
        return teacher_cache.root(self.settings, self.plan.source.folder)

    def _masks(self, forward: ModelRunner) -> Masks:
        """The masks that losses are given are the student's; both models see the same tokens where layers are matched."""
        student = self.stage.features[self.stage.needs.student]
        inputs = student.get("inputs_mask") or forward.features.get("inputs_mask")
        if inputs is None and not self.stage.matches:
            inputs = Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False)
        return Masks(inputs, forward.features.get("logits_mask"))

    def _survey(
        self, forward: ModelRunner | Reducing, names: Sequence[str], masks: Masks
    ) -> tuple[tuple[Slot, ...], float]:
        """The slots, from a look at a short and a long row, and the operations of an average row."""
        sizes = lengths(self.loader, forward.name)
        ends = (int(sizes.argmin()), int(sizes.argmax()) or self.loader.rows - 1)
        with FlopCounterMode(display=False) as counter:
            sights = [self._sight(forward, row, masks, seed=0) for row in ends]
        again = self._sight(forward, ends[-1], masks, seed=1)
        pairs = zip(tensors(sights[-1].features, names), tensors(again.features, names), strict=True)
        if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for (*_, a), (*_, b) in pairs):
            raise Uncacheable("it, or its inputs, are drawn anew each time")
        return survey(sights[0], sights[-1], names), counter.get_total_flops() / 2

    def _sight(self, forward: ModelRunner | Reducing, row: int, masks: Masks, seed: int) -> Sight:
        with isolated_random():
            reseed(seed, 0, 0, 0)
            batch = self.loader.batch(forward.name, [row])
            long = {name: mask.shape[1] for name, mask in masks.of(batch).items()}
            on_device = {key: value.to(self.backend.device) for key, value in batch.items()}
            with frozen(forward.module), self.backend.autocast():
                features: Features = forward(on_device)
        return Sight(features, long)

    def _sample(self, forward: ModelRunner | Reducing, masks: Masks) -> Counts:
        rows = np.unique(np.linspace(0, self.loader.rows - 1, _SAMPLE).astype(int)).tolist()
        return {name: mask.sum(1) for name, mask in masks.of(self.loader.batch(forward.name, rows)).items()}

    def _too_large(self, size: float) -> str:
        return f"it would take {size / 1e9:.3g} GB, and the budget is {self.settings.budget}"

    def _check_room(self, folder: Path, size: int) -> None:
        data = folder / DATA
        there = data.stat().st_blocks * 512 if data.exists() else 0
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        if (size - there) * _SPARE > free:
            raise Uncacheable(f"it would take {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free in {place}")

    def _refused(self, teacher: str, reason: str) -> FindingError:
        label = Mark(("stages", self.stage.name, "training", "teacher_cache"), "on")
        message = f"teacher `{teacher}` of stage `{self.stage.name}` cannot be cached: {reason}"
        help_ = "`auto` caches where that can be, and tells where not"
        return FindingError(Finding("KD512", message, *label, help=help_))


def opened(stage: str, cache: TeacherCache, step: int = 0) -> CacheState:
    """What there is to tell of a cache now."""
    layout, rows = cache.layout, cache.rows.loader.rows
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
        row_bytes=layout.bytes // rows,
        bytes=layout.bytes,
        hits=cache.hits,
        computed=cache.computed,
    )


def state(stage: str, teacher: str, *, reason: str) -> CacheState:
    """That a teacher is not cached, and why."""
    return CacheState(
        stage=stage, step=0, teacher=teacher, used=False, reason=reason, folder="", features=(), rows=0, row_bytes=0,
        bytes=0, hits=0, computed=0,
    )  # fmt: skip
