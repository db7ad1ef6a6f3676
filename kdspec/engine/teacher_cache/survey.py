"""Runs a teacher on a few rows to find its slots, its cost and the size of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdspec.api.working.step import Features
from kdspec.engine.batches.sampler import isolated_random, reseed
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.processes.backend import Backend
from kdspec.engine.teacher_cache.answered.answered import Answered
from kdspec.engine.teacher_cache.answered.piece_answers import PieceAnswers
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.layout import Layout
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import Sight, Slot, Uncacheable, slots_of, tensors

_ROWS = 64
"""Number of rows from which the mean size of a row is estimated."""


@dataclass(frozen=True)
class Survey:
    """The result of a survey."""

    slots: tuple[Slot, ...]
    flops: float
    """Operations per row, on average."""
    row_bytes: float
    """Bytes per row, on average."""


def survey(
    forward: ModelRunner | Reducing | PieceAnswers, names: Sequence[str], answered: Answered, masks: Masks, backend: Backend,
    codecs: CodecChoice,
) -> Survey:  # fmt: skip
    """Run the teacher on the shortest and the longest row or piece, and count the tokens of some others.

    Raises:
        Uncacheable: its outputs for a row are not deterministic, or their shapes do not follow rows and tokens.
    """
    sizes = answered.lengths
    # Of rows without lengths the first and the last one.
    ends = (int(sizes.argmin()), int(sizes.argmax()) if sizes.any() else len(sizes) - 1)
    with FlopCounterMode(display=False) as counter:
        sights = [_sight(forward, answered, row, masks, backend, seed=0) for row in ends]
    # With another seed: a dropout that stays active in eval mode, or a random input, shows as a difference.
    again = _sight(forward, answered, ends[-1], masks, backend, seed=1)
    pairs = zip(tensors(sights[-1].features, names), tensors(again.features, names), strict=True)
    # NaN is not equal to itself, and a teacher may return it for padding.
    if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for (*_, a), (*_, b) in pairs):
        raise Uncacheable("its outputs or its inputs are random")
    slots = slots_of(sights[0], sights[-1], names)
    rows = np.unique(np.linspace(0, len(sizes) - 1, _ROWS).astype(int)).tolist()
    counts = {name: mask.sum(1) for name, mask in masks.of(answered.batch(rows)).items()}
    return Survey(slots, counter.get_total_flops() / 2, Layout(slots, counts, codecs, len(rows)).mean())


def _sight(
    forward: ModelRunner | Reducing | PieceAnswers, answered: Answered, row: int, masks: Masks, backend: Backend, seed: int
) -> Sight:  # fmt: skip
    with isolated_random():
        reseed(seed, 0, 0, 0)
        batch = answered.batch([row])
        long = {name: mask.shape[1] for name, mask in masks.of(batch).items()}
        with frozen(forward.module), backend.autocast():
            features: Features = forward(batch.to(backend.device))
    return Sight(features, long)
