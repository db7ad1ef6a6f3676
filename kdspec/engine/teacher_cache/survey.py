"""A look at what a teacher says of a few rows, before all of them are looked at: its slots, its cost, its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdspec.api.step import Features
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random, reseed
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.processes.backend import Backend
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.layout import Layout
from kdspec.engine.teacher_cache.masks import Masks
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import Sight, Slot, Uncacheable, slots_of, tensors

_ROWS = 64
"""Rows by whose lengths the size of a row is judged."""


@dataclass(frozen=True)
class Survey:
    """What was seen."""

    slots: tuple[Slot, ...]
    flops: float
    """Operations for an average row."""
    row_bytes: float
    """What an average row takes."""


def survey(
    forward: ModelRunner | Reducing, names: Sequence[str], loader: Loader, masks: Masks, backend: Backend, codecs: CodecChoice
) -> Survey:  # fmt: skip
    """Look at the shortest and the longest row of a teacher, and at the lengths of some others.

    Raises:
        Uncacheable: what it says of a row is not the same each time, or does not follow the rows and their tokens.
    """
    sizes = loader.lengths_for(forward.name)
    ends = (int(sizes.argmin()), int(sizes.argmax()) or loader.rows - 1)
    with FlopCounterMode(display=False) as counter:
        sights = [_sight(forward, loader, row, masks, backend, seed=0) for row in ends]
    again = _sight(forward, loader, ends[-1], masks, backend, seed=1)
    pairs = zip(tensors(sights[-1].features, names), tensors(again.features, names), strict=True)
    if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for (*_, a), (*_, b) in pairs):
        raise Uncacheable("it, or its inputs, are drawn anew each time")
    slots = slots_of(sights[0], sights[-1], names)
    rows = np.unique(np.linspace(0, loader.rows - 1, _ROWS).astype(int)).tolist()
    counts = {name: mask.sum(1) for name, mask in masks.of(loader.batch(forward.name, rows)).items()}
    return Survey(slots, counter.get_total_flops() / 2, Layout(slots, counts, codecs, len(rows)).mean())


def _sight(
    forward: ModelRunner | Reducing, loader: Loader, row: int, masks: Masks, backend: Backend, seed: int
) -> Sight:
    with isolated_random():
        reseed(seed, 0, 0, 0)
        batch = loader.batch(forward.name, [row])
        long = {name: mask.shape[1] for name, mask in masks.of(batch).items()}
        with frozen(forward.module), backend.autocast():
            features: Features = forward(batch.to(backend.device))
    return Sight(features, long)
