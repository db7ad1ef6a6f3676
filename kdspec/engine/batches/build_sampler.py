"""The batches of a stage, from what the plan says of them and what models and rows show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdspec.api.spec import Training
from kdspec.api.step import Features
from kdspec.engine.batches.length_split import LengthSplit
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import DataOrder
from kdspec.events import Note
from kdspec.plan.micro_batching import BatchingPlan

# So many tokens a cut takes whatever the model: all weights are read once more, their gradients are added once more, and
# products with fewer tokens do not fill a processor.
_LEAST = 64
# In the time that the calls of a layer take, forward and backward, a token could be multiplied with so many parameters.
_CALLS = 16_000_000
# An accelerator computes so many more tokens in the time of a call. Not measured but estimated: rather too few cuts.
_ON_A_DEVICE = 64
_UNCUT = 2**40
"""At this cost the rows of a lane stay together."""
_STEPS = 100
"""Of so many steps the padding is told."""


@dataclass(frozen=True, kw_only=True)
class SamplerChoice:
    """In which order rows come and how they are cut, and what to tell of it."""

    order: DataOrder
    notes: tuple[Note, ...]


def arrange(
    batches: BatchingPlan, loader: Loader, training: Training, student: nn.Module, features: Features, *,
    teachers: Sequence[nn.Module], stage: str, seed: int, world: int,
) -> SamplerChoice:  # fmt: skip
    """The order of the stage's rows.

    Args:
        batches: what the plan says.
        loader: the rows.
        training: the settings of the stage.
        student: the model that trains.
        features: of the student, for a first batch.
        teachers: the models that run beside it.
        stage: its name.
        seed: its seed.
        world: how many processes train together.
    """
    lanes = training.lanes if world == 1 and loader.device.type == "cpu" else 1
    if (batches.cut or lanes > 1) and not batches.doubt and (doubt := _doubt(student, features)):
        batches = batches.doubted(doubt)
    grouped = batches.name == "length_grouped"
    vary = (batches.cut or grouped) and len(set(loader.lengths.tolist())) > 1
    cutting = None
    if batches.cut and (vary or (batches.tokens is not None and loader.lengths.any())):
        cost = cost_of_a_cut(student, teachers, loader.device.type)
        cutting = LengthSplit(
            lengths=loader.lengths, cost=cost, tokens=batches.tokens, lanes=1 if batches.doubt else lanes
        )
    elif lanes > 1 and not batches.doubt:
        cutting = LengthSplit(lengths=loader.lengths, cost=_UNCUT, lanes=lanes)
    order = DataOrder(
        loader.rows, training.batch_size, training.accumulate, seed, shuffle=training.shuffle, world=world,
        grouped=loader.lengths if grouped and vary else None, cutting=cutting,
    )  # fmt: skip
    return SamplerChoice(order=order, notes=tuple(_notes(batches, order, loader, stage)))


def cost_of_a_cut(student: nn.Module, teachers: Sequence[nn.Module], device: str) -> int:
    """The tokens that could be computed in the time that one more micro-batch takes, a function of the models' sizes.

    That time is of the calls, whose number grows with the layers; the time of a token grows with their parameters.
    """
    # Of the student, one forward and two backward products with each parameter; of a teacher one.
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
    """What a look at the models tells against cuts."""
    mixing = next((name for name, module in student.named_modules() if isinstance(module, _BatchNorm)), None)
    if mixing is not None:
        return f"`{mixing}` of the student normalises over the batch"
    if not features.heads("logits_mask") and any(len(logits.shape) > 1 for logits in features.logits):
        return "logits of tokens are averaged over padding too, for there is no `logits_mask`"
    return ""


def _notes(batches: BatchingPlan, order: DataOrder, loader: Loader, stage: str) -> list[Note]:
    notes = []
    if batches.doubt and batches.cut:
        notes.append(Note("warning", f"stage `{stage}`: the gradient may depend on the cuts: {batches.doubt}"))
    if order.grouped is None and order.cutting is None:
        if not loader.lengths.any() and not batches.chosen and batches.name != "random":
            text = f"stage `{stage}`: rows without `{loader.task.length_key}` have no length, so batches are random"
            notes.append(Note("warning", text))
        return notes
    if order.grouped is None and not batches.cut:
        return notes
    steps = range(min(_STEPS, order.steps_per_epoch))
    made = _padding(loader, [order.micro_batches(step) for step in steps])
    plain = DataOrder(order.rows, order.batch_size, order.accumulate, order.seed, shuffle=order.shuffle)
    drawn = _padding(loader, [plain.micro_batches(step) for step in steps if step < plain.steps_per_epoch])
    what = "length-grouped batches" if order.grouped is not None else "micro-batches of similar length"
    text = f"stage `{stage}`: {what}: {made:.0%} of their tokens are padding, {drawn:.0%} in random batches"
    return [*notes, Note("info", text)]


def _padding(loader: Loader, steps: Sequence[Sequence[Sequence[int]]]) -> float:
    lengths = [loader.lengths[list(rows)] for step in steps for rows in step if rows]
    padded = sum(int(each.max()) * len(each) for each in lengths)
    return 1 - sum(int(each.sum()) for each in lengths) / max(padded, 1)
