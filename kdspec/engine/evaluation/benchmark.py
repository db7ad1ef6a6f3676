"""Measures the speed and memory of the models of a finished run on rows of its own data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from kdspec.api.plan.plan import Plan
from kdspec.api.working.batch import Batch
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.evaluation.best_model import evaluated_features
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.evaluation.evaluate import latency
from kdspec.engine.evaluation.results import count, in_order, role
from kdspec.engine.forward.memory import LiveMemory, size
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.models import Models
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.task_heads import conflicts

BATCHES = 8
"""Maximum batches of one round of the throughput measurement."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One model, with the head for one task, on this machine."""

    model: str
    role: str
    """`teacher`, `student`, or `baseline` for a student trained without distillation."""
    task: str
    split: str
    """The rows: the first available split of `test`, `validation` and `train`."""
    parameters: int
    latency_ms: float
    """Median milliseconds of a forward pass of one row of medium length."""
    rows_per_second: float
    """Throughput in batches of rows of similar length, median of the rounds."""
    tokens_per_second: float | None
    """Non-padding tokens; None for rows without tokens."""
    weight_bytes: int
    """Bytes of parameters and buffers."""
    peak_bytes: int
    """Peak memory of a forward pass of a batch, including weights: bytes of tensors on a CPU, allocated bytes on a GPU."""


def measure(
    plan: Plan, folder: RunFolder, *, device: torch.device, batch_size: int, rounds: int, tell: Callable[[str], None]
) -> tuple[Speed, ...]:
    """Measure every model of a run that has weights, teachers first.

    Args:
        plan: the plan of the run.
        folder: the folder of the run; models of unfinished stages are built from the spec.
        device: where to compute.
        batch_size: rows per batch.
        rounds: repetitions of the throughput measurement.
        tell: called with the name of each model before it is measured.

    Raises:
        FindingError: KD5xx if data or models cannot be loaded.
    """
    tasks = built_tasks(plan)
    heads = {name: task.head for name, task in tasks.items()}
    assert not tuple(conflicts(plan, heads)), "the run has checked this"
    ends = folder.finished([stage.name for stage in plan.stages])
    students = {stage.name: stage.student for stage in plan.stages}
    models = Models(plan, heads, {students[name]: folder.path / event.folder for name, event in ends.items()})
    found = []
    for name, task_name in in_order(plan):
        if not plan.spec.models[name].has_weights:
            continue  # its answers were recorded by another program, at a cost that is not known
        task = tasks[task_name]
        split = next((s for s in ("test", "validation") if task.rows(s)), "train")
        tell(name)
        models.prepared(name, device, trains=False, eager=False)
        module, reader = models.view(name, task_name), models.reader(name)
        forward = ModelRunner(
            ModelFindings(plan.spec, name, task_name), module,
            evaluated_features(plan, name, task_name, task.evaluator(split)), chooses=reader.tokenizer is not None,
        )  # fmt: skip
        loader = Loader(task, split, {name: reader}, device=device)
        batches = _batches(loader, name, batch_size)
        rows = sum(len(each) for each, _ in batches)
        tokens = sum(int(loader.lengths[each].sum()) for each, _ in batches)
        seconds = _seconds(forward, [batch for _, batch in batches], rounds, cuda=device.type == "cuda")
        found.append(
            Speed(
                model=name,
                role=role(plan, name),
                task=task_name,
                split=split,
                parameters=count(module),
                latency_ms=1000 * latency(forward, loader),
                rows_per_second=rows / seconds,
                tokens_per_second=tokens / seconds if tokens else None,
                weight_bytes=size((*module.parameters(), *module.buffers())),
                peak_bytes=_peak(forward, batches[-1][1]),
            )
        )
    return tuple(found)


def _batches(loader: Loader, model: str, batch_size: int) -> list[tuple[list[int], Batch]]:
    """Some batches from the shortest rows to the longest, with their row numbers."""
    order = loader.lengths.argsort(kind="stable").tolist()
    starts = list(range(0, max(len(order) - batch_size + 1, 1), batch_size))
    step = max(1, -(-len(starts) // BATCHES))
    chosen = starts[::-step][::-1]  # the longest rows are always among them
    return [(rows, loader.on_device(model, rows)) for rows in (order[start : start + batch_size] for start in chosen)]


def _seconds(forward: ModelRunner, batches: list[Batch], rounds: int, *, cuda: bool) -> float:
    """The median time of all batches together."""
    times = []
    with isolated_random(), frozen(forward.module):
        for number in range(-1, rounds):  # the first one only warms up
            began = time.perf_counter()
            for batch in batches:
                forward(batch)
            # Kernels run asynchronously: without waiting only their launch would be measured.
            if cuda:
                torch.cuda.synchronize()
            if number >= 0:
                times.append(time.perf_counter() - began)
    return statistics.median(times)


def _peak(forward: ModelRunner, batch: Batch) -> int:
    tensors = [*forward.module.parameters(), *forward.module.buffers()]
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    with isolated_random(), frozen(forward.module):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            forward(batch)
            torch.cuda.synchronize()
            return size(tensors) + torch.cuda.max_memory_allocated(device) - before
        seen = _Seen()
        seen.alive.leave_out([*tensors, *batch.tensors.values()])
        with seen:
            forward(batch)
    return size(tensors) + seen.alive.peak


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has not typed it
    """Counts the live tensors that operations create."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has not typed it
        self.alive = LiveMemory()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        for value in _tensors(made):
            self.alive.count(value)
        return made


def _tensors(value: Any) -> Iterator[Tensor]:
    yield from (each for each in tree_iter(value) if isinstance(each, Tensor))
