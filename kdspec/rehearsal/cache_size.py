"""The size of a row in a teacher cache, from the shapes of its features and their codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.api.working.logits import as_tensor
from kdspec.api.working.pieces import PutsTogether
from kdspec.api.working.step import Features
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.slots import TOKENS, Slot
from kdspec.objectives.reductions import Reduced

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""The inputs of texts."""


def row_bytes(
    features: Features,
    planned: Iterable[Feature],
    reduced: Sequence[Reduced],
    codecs: CodecChoice,
    kept: Callable[[int], int],
) -> int:
    """The bytes of a row of the batch's length.

    Args:
        features: the teacher's features of a batch of such rows.
        planned: the features that the stage reads of the teacher.
        reduced: the reductions that the cache stores in place of layers.
        codecs: how it stores values.
        kept: the number of positions with unmasked logits in a row of this length.
    """
    made = [feature.name for feature in planned if any(path.root != "batch" for path in feature.paths)]
    counts = [(slot, kept(length) if masked else 0) for slot, length, masked in _slots(features, made, reduced)]
    return codecs.size([slot for slot, _ in counts], [count for _, count in counts])


def answer_bytes(forward: ModelRunner, batch: Batch, rows: int, codecs: CodecChoice) -> int | None:
    """The bytes of a row whose texts, or pairs of texts, are answered one by one; None for a model that answers whole rows.

    Texts that several rows name are counted for each of them: what rows share is known only when they are read.

    Args:
        forward: the teacher.
        batch: of such rows.
        rows: their number.
        codecs: how the cache stores values.
    """
    fields = [tensors for tensors in batch.inputs.values() if "input_ids" in tensors]
    if not isinstance(forward.module, PutsTogether) or not fields:
        return None
    total = 0
    for tensors in fields:
        number, length = tensors["input_ids"].shape
        one = {name: tensors[name][:1] for name in _TOKENS if name in tensors}
        with frozen(forward.module):
            answer = forward.answers(Batch(inputs={"": one}))
        shape = tuple(int(size) for size in answer.shape[1:])
        of_tokens = len(shape) > 1 and shape[0] == length
        slot = Slot("answers", "whole", 0, _dtype(answer.dtype), (TOKENS, *shape[1:]) if of_tokens else shape)
        total += number * codecs.size([slot], [length])
    return total // rows


def _slots(features: Features, names: Sequence[str], reduced: Sequence[Reduced]) -> Iterator[tuple[Slot, int, bool]]:
    """The slots of a row, each with its length, and whether a mask selects its tokens."""
    gone = {(each.feature, layer) for each in reduced for layer in each.layers}
    for name in names:
        value = features[name]
        items = value.items() if isinstance(value, Mapping) else enumerate(features.heads(name))
        masks = features.heads("logits_mask") if name == "logits" else ()
        for index, item in items:
            tensor = as_tensor(item)
            if (name, index) in gone or not isinstance(tensor, Tensor):
                continue
            shape, length = tuple(int(size) for size in tensor.shape[1:]), 0
            masked = any(tensor.ndim > mask.ndim and tensor.shape[:2] == mask.shape for mask in masks)
            if masked:
                length, shape = shape[0], (TOKENS, *shape[1:])
            yield Slot(name, "whole", index, _dtype(tensor.dtype), shape, "logits" if masked else None), length, masked
    for each in reduced:
        _, length, width = features.layer(each.feature, each.layers[0]).shape
        shape = (width,) if each.reduction == "first" else (length, length)
        yield Slot(each.name, "whole", 0, _dtype(torch.float32), shape), 0, False


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
