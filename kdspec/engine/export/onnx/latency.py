"""How long a model takes in torch and in ONNX: one row and a batch, short and long, by the number of threads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdspec.engine.export.onnx.graph import Graph
from kdspec.engine.export.onnx.onnx_model import OnnxModel
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.teacher_cache.answered.answered import Answered

SIZES = (1, 32)
"""Rows of a batch."""
_SHORT, _LONG = 0.1, 0.9
_MOST = 50
_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """A batch."""

    rows: int
    tokens: int
    """Of each row, with padding; 0 for rows without tokens."""
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Timing:
    """The time of a batch."""

    rows: int
    tokens: int
    threads: int
    milliseconds: float
    """Median of up to 50 passes; the outputs of torch and ONNX are on the CPU."""


def work(forward: ModelRunner, answered: Answered) -> Iterator[Work]:
    """A row and a batch of 32, at the short end of the rows and at the long one: the tenth and the ninetieth percentile."""
    order = np.argsort(answered.lengths, kind="stable")
    for size in SIZES:
        before: Work | None = None
        for share in (_SHORT, _LONG):
            first = max(0, min(round(share * (len(order) - 1)) - size // 2, len(order) - size))
            # A split with fewer rows has some of them several times.
            chosen = np.resize(order[first : first + size], size).tolist()
            inputs = forward.inputs(answered.batch(chosen))
            mask = inputs.get("attention_mask")
            made = Work(size, 0 if mask is None else mask.shape[1], inputs)
            if before is None or made.tokens != before.tokens:
                yield made
            before = made


def of_torch(graph: Graph, batches: Sequence[Work], threads: Sequence[int]) -> Iterator[Timing]:
    """The times of the model in torch."""
    for number in threads:
        with _torch_threads(number), frozen(graph):
            for batch in batches:
                tensors = [batch.inputs[name] for name in graph.inputs]
                yield Timing(batch.rows, batch.tokens, number, _median(lambda given=tensors: graph(*given)))  # type: ignore[misc]  # a default


def of_file(model: Callable[[int], OnnxModel], batches: Sequence[Work], threads: Sequence[int]) -> Iterator[Timing]:
    """The times of an ONNX file, opened for each number of threads."""
    for number in threads:
        opened = model(number)
        for batch in batches:
            given = opened.given(batch.inputs)
            yield Timing(batch.rows, batch.tokens, number, _median(lambda run=opened, given=given: run.arrays(given)))  # type: ignore[misc]  # a default


def _median(run: Callable[[], object]) -> float:
    """Milliseconds, after some passes that only warm up."""
    times: list[float] = []
    for number in range(-3, _MOST):
        began = time.perf_counter()
        run()
        if number >= 0:
            times.append(time.perf_counter() - began)
            if sum(times) > _SECONDS and len(times) >= 3:
                break
    return 1000 * statistics.median(times)


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
