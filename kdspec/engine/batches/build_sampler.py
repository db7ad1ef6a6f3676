"""Chooses the data order of a stage from its plan, its models and the lengths of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdspec.api.spec.spec import Training
from kdspec.api.working.step import Features
from kdspec.engine.batches.length_split import LengthSplit
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import DataOrder
from kdspec.events import Note
from kdspec.planning.micro_batching import BatchingPlan

# Tokens that one more micro-batch costs for any model: all weights are read again, their gradients are added again, and
# products with fewer tokens do not fill a CPU.
_LEAST = 64
# Parameters that could be multiplied with a token in the time of the calls of a layer, forward and backward.
_CALLS = 16_000_000
# How many times more tokens an accelerator computes in the time of a call. Estimated, not measured; it splits rarely.
_ON_A_DEVICE = 64
_NEVER_SPLIT = 2**40
"""At this cost the rows of a lane stay together."""
_STEPS = 100
"""Number of steps from which the logged share of padding is computed."""


@dataclass(frozen=True, kw_only=True)
class SamplerChoice:
    """The order of rows with their split into micro-batches, and notes on it."""

    order: DataOrder
    notes: tuple[Note, ...]


def arrange(
    batches: BatchingPlan, loader: Loader, training: Training, student: nn.Module, features: Features, *,
    teachers: Sequence[nn.Module], stage: str, seed: int, world: int, ranks: int,
) -> SamplerChoice:  # fmt: skip
    """The order of the stage's rows.

    Args:
        batches: the plan of the batches.
        loader: the rows.
        training: the settings of the stage.
        student: the model that trains.
        features: the student's features for a first batch.
        teachers: the models that run in addition to it.
        stage: its name.
        seed: its seed.
        world: the number of processes.
        ranks: the number of them that share the micro-batches of the order.
    """
    lanes = training.lanes if world == 1 and loader.device.type == "cpu" else 1
    if (batches.splits or lanes > 1) and not batches.doubt and (doubt := _doubt(student, features)):
        batches = batches.doubted(doubt)
    grouped = batches.name == "length_grouped"
    vary = (batches.splits or grouped) and len(set(loader.lengths.tolist())) > 1
    length_split = None
    if batches.splits and (vary or (batches.tokens is not None and loader.lengths.any())):
        cost = split_cost(student, teachers, loader.device.type)
        length_split = LengthSplit(
            lengths=loader.lengths, cost=cost, tokens=batches.tokens, lanes=1 if batches.doubt else lanes
        )
    elif lanes > 1 and not batches.doubt:
        length_split = LengthSplit(lengths=loader.lengths, cost=_NEVER_SPLIT, lanes=lanes)
    order = DataOrder(
        loader.rows, training.batch_size, training.accumulate, seed, shuffle=training.shuffle, world=ranks,
        grouped=loader.lengths if grouped and vary else None, length_split=length_split,
    )  # fmt: skip
    return SamplerChoice(order=order, notes=tuple(_notes(batches, order, loader, stage)))


def split_cost(student: nn.Module, teachers: Sequence[nn.Module], device: str) -> int:
    """The cost of one more micro-batch, as the number of tokens computed in the same time; depends on the models' sizes.

    The cost is that of the calls, which grows with the layers; the time of a token grows with their parameters.
    """
    # The student has one forward and two backward products with each parameter, a teacher has one.
    calls, products = 0, 0
    for times, module in ((3, student), *((1, teacher) for teacher in teachers)):
        layers = [inner for inner in module.modules() if isinstance(inner, nn.Linear)]
        calls += times * len(layers)
        products += times * sum(layer.weight.numel() for layer in layers)
    if not products:
        return _LEAST
    tokens = _LEAST + _CALLS * calls // (6 * products)  # a layer of a transformer has six linear ones
    return tokens if device == "cpu" else tokens * _ON_A_DEVICE


def _doubt(student: nn.Module, features: Features) -> str:
    """A reason in the models why splitting may change the gradient; empty if there is none."""
    mixing = next((name for name, module in student.named_modules() if isinstance(module, _BatchNorm)), None)
    if mixing is not None:
        return f"`{mixing}` of the student normalises over the batch"
    if not features.heads("logits_mask") and any(len(logits.shape) > 1 for logits in features.logits):
        return "there is no `logits_mask`, so logits of tokens are averaged over padding too"
    return ""


def _notes(batches: BatchingPlan, order: DataOrder, loader: Loader, stage: str) -> list[Note]:
    notes = []
    if batches.doubt and batches.splits:
        notes.append(Note("warning", f"stage `{stage}`: splitting batches may change the gradient: {batches.doubt}"))
    if order.grouped is None and order.length_split is None:
        if not loader.lengths.any() and not batches.chosen and batches.name != "random":
            text = f"stage `{stage}`: rows without `{loader.task.length_key}` have no length, so batches are random"
            notes.append(Note("warning", text))
        return notes
    if order.grouped is None and not batches.splits:
        return notes
    steps = range(min(_STEPS, order.steps_per_epoch))
    made = _padding(loader, [order.micro_batches(step) for step in steps])
    plain = DataOrder(order.rows, order.batch_size, order.accumulate, order.seed, shuffle=order.shuffle)
    random = _padding(loader, [plain.micro_batches(step) for step in steps if step < plain.steps_per_epoch])
    what = "length-grouped batches" if order.grouped is not None else "micro-batches of similar length"
    text = f"stage `{stage}`: {what}: {made:.0%} of their tokens are padding, {random:.0%} in random batches"
    return [*notes, Note("info", text)]


def _padding(loader: Loader, steps: Sequence[Sequence[Sequence[int]]]) -> float:
    lengths = [loader.lengths[list(rows)] for step in steps for rows in step if rows]
    padded = sum(int(each.max()) * len(each) for each in lengths)
    return 1 - sum(int(each.sum()) for each in lengths) / max(padded, 1)
