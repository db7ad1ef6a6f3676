"""Compares a model's outputs for a row alone and beside longer rows: padding must change them by no more than rounding."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdspec.api.working.batch import Batch
from kdspec.api.working.logits import Logits
from kdspec.api.working.step import Features
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.error_context import is_out_of_memory
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.hf.families import rowwise

ALLOWED = 1e-3
"""Allowed difference in float32, relative to the largest output.

Measured on CPU for 100 families of transformers with 2 to 24 layers and random weights: rounding changes outputs by at most
2.2e-6, padding on the wrong side by 0.14 and more, and families whose rows depend on their padding by 1.3e-3 to 0.7.
"""
_ROWS = 4
_ROUGH = 0.5
"""Allowed difference in a 16-bit type, where the model does not fit into the memory in float32. Measured: up to 0.14 by
rounding alone (24 layers in bfloat16), so most differences can only be told in float32."""
_NOT_OUTPUTS = ("labels", "inputs_mask", "logits_mask", "losses", "attention")
_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The row whose outputs change most if it is padded."""

    feature: str
    """The name of the output."""
    row: int
    """The row's number in the loader, counted from 0."""
    beside: int
    """The longest row beside it."""
    size: float
    """The difference, relative to the largest absolute value of the output over the compared rows. NaN counts as infinite."""
    allowed: float
    """The largest difference that rounding can make."""

    @property
    def exceeds(self) -> bool:
        """Whether the answer for a row depends on its batch."""
        return not self.size <= self.allowed


def measure(forward: ModelRunner, loader: Loader, rows: Sequence[int] | None = None) -> Difference | None:
    """Run a few rows alone and all of them in one batch, and compare what the model gives for each.

    Compared are the logits (of a large head its input) and the other features that `forward` reads of the model, at
    non-padding positions. Where they differ in a 16-bit type by more than one rounding, they are compared again with a copy of
    the model in float32. Neither the model nor the state of random generators changes.

    Args:
        forward: the model, on its device.
        loader: the rows; one of its readers is the model's.
        rows: the rows to compare; by default the shortest, the longest and two between, all of different lengths.

    Returns:
        The largest difference; None if there is nothing to compare: all rows have the same length, or the family is not known
        to compute rows alone, which the plan says and evaluation respects.

    Raises:
        FindingError: as the model does for a batch.
    """
    chosen = _chosen(loader, forward.name) if rows is None else list(rows)
    if len(chosen) < 2 or not separate(forward.module):
        return None
    together = loader.on_device(forward.name, chosen)
    alone = [loader.on_device(forward.name, [row]) for row in chosen]
    dtype = _dtype(forward)
    with isolated_random(), frozen(forward.module):
        found = _largest(forward, chosen, together, alone)
        if found is None or dtype in (torch.float32, torch.float64):
            return found and _difference(found, chosen, loader, forward.name, ALLOWED)
        rounding = torch.finfo(dtype).eps
        if found[1] <= rounding:
            return _difference(found, chosen, loader, forward.name, rounding)
        if (exact := _exact(forward)) is not None and (again := _largest(exact, chosen, together, alone)) is not None:
            return _difference(again, chosen, loader, forward.name, ALLOWED)
    return _difference(found, chosen, loader, forward.name, _ROUGH)


def separate(module: nn.Module) -> bool:
    """Whether rows are computed alone, whatever their padding; False for a family of transformers of which that is unknown."""
    family = getattr(getattr(module, "config", None), "model_type", None)
    return not isinstance(family, str) or rowwise(family)


def refused(task: str, forward: ModelRunner, loader: Loader, difference: Difference) -> Finding:
    """KD517 for a difference that exceeds rounding, with padding side, ids and masks of the row in both batches.

    Args:
        task: the task of the rows.
        forward: the model.
        loader: the rows.
        difference: what `measure` has returned.
    """
    name, tokenizer = forward.name, loader.readers[forward.name].tokenizer
    lengths = loader.lengths_for(name)
    message = (
        f"the answer of model `{name}` for a row depends on its batch: `{difference.feature}` of a row of "
        f"{int(lengths[difference.row])} tokens differs by {difference.size:.2g} of its size beside one of "
        f"{int(lengths[difference.beside])}"
    )
    notes = [
        f"row {difference.row + 1} of `{loader.split}` in task `{task}`; rounding explains {difference.allowed:.1g}"
    ]
    if tokenizer is not None:
        side, pad = tokenizer.padding_side, tokenizer.pad_token_id
        own = getattr(getattr(forward.module, "config", None), "pad_token_id", None)
        notes.append(f"rows are padded on the {side} with id {pad}; the configuration's `pad_token_id` is {own}")
    alone, beside = (
        loader.batch(name, rows).tensors for rows in ([difference.row], [difference.row, difference.beside])
    )
    notes += [
        f"`{key}` alone {_listed(alone[key][0])}, padded {_listed(beside[key][0])}"
        for key in alone
        if key.rpartition(".")[2] in ("input_ids", "attention_mask")
    ]
    if forward.accepted is not None and "attention_mask" not in forward.accepted:
        notes.append("the model does not take `attention_mask`")
    label = Mark(("models", name), "depends on the batch", key=True)
    help_ = "a model must use `attention_mask`, or find padding by the `pad_token_id` of its configuration"
    return Finding("KD517", message, *label, notes=tuple(notes), help=help_)


def _chosen(loader: Loader, model: str) -> list[int]:
    """Rows of different lengths: the shortest, two between, and last the longest."""
    lengths = loader.lengths_for(model)
    if not len(lengths) or not lengths.any():
        return []
    different, first = np.unique(lengths, return_index=True)
    places = sorted({round(part * (len(different) - 1) / (_ROWS - 1)) for part in range(_ROWS)})
    return [int(first[place]) for place in places if different[place] > 0]


def _difference(
    found: tuple[str, float, int], chosen: list[int], loader: Loader, model: str, allowed: float
) -> Difference:
    feature, size, place = found
    beside = max(chosen, key=loader.lengths_for(model).__getitem__)
    return Difference(feature=feature, row=chosen[place], beside=beside, size=size, allowed=allowed)


def _largest(
    forward: ModelRunner, rows: Sequence[int], together: Batch, alone: Sequence[Batch]
) -> tuple[str, float, int] | None:
    """The output that differs most, its relative difference, and the place of the row in `rows`."""
    features = forward(together)
    whole, mask = dict(_outputs(features)), _mask(features, together)
    differences = dict[str, list[float]]()
    sizes = dict[str, float]()
    for place in range(len(rows)):
        for name, mine in _outputs(forward(alone[place])):
            theirs = whole.get(name)
            if theirs is None or len(mine) != 1 or len(theirs) != len(rows):  # of texts, of which a row has several
                continue
            pair = _same_positions(mine[0], theirs[place], mask, place)
            if pair is None or not pair[0].numel():
                continue
            one, other = (tensor.double() for tensor in pair)
            gap = float((one - other).abs().max())
            differences.setdefault(name, [0.0] * len(rows))[place] = gap if gap == gap else float("inf")  # noqa: PLR0124 - NaN
            sizes[name] = max(sizes.get(name, 0.0), float(one.abs().max().nan_to_num()))
    found = [
        (name, gap / sizes[name] if sizes[name] else (float("inf") if gap else 0.0), place)
        for name, gaps in differences.items()
        for place, gap in enumerate(gaps)
    ]
    return max(found, key=lambda each: each[1], default=None)


def _mask(features: Features, batch: Batch) -> Tensor | None:
    """Which positions of the rows are not padding: of tokens or, where a row has several texts, of its logits."""
    mask = batch.inputs.get("", {}).get("attention_mask")
    if mask is not None and len(mask) == len(batch.rows):
        return mask
    return next(iter(features.heads("logits_mask")), None)


def _same_positions(alone: Tensor, beside: Tensor, mask: Tensor | None, place: int) -> tuple[Tensor, Tensor] | None:
    """A row's output alone and in the batch at its non-padding positions; None if they cannot be compared."""
    if mask is not None and beside.ndim and beside.shape[0] == mask.shape[1] and alone.ndim:
        kept = mask[place] != 0
        if alone.shape[0] == int(kept.count_nonzero()):
            return alone, beside[kept]
    return (alone, beside) if alone.shape == beside.shape else None


def _outputs(features: Features) -> Iterator[tuple[str, Tensor]]:
    """The floating-point outputs of a model with the rows as first axis, by name."""
    for name in features:
        value = features[name]
        if name in _NOT_OUTPUTS:
            continue
        items = value.items() if isinstance(value, Mapping) else enumerate(features.heads(name))
        for number, item in items:
            tensor = item.tensors[0] if isinstance(item, Logits) else item
            if isinstance(tensor, Tensor) and tensor.ndim and tensor.is_floating_point():
                yield (f"{name} {number}" if isinstance(value, (Mapping, tuple, list)) else name), tensor


def _dtype(forward: ModelRunner) -> torch.dtype:
    """The narrowest type that the model computes in."""
    types = {p.dtype for p in forward.module.parameters() if p.is_floating_point()}
    return max(types or {torch.float32}, key=lambda dtype: torch.finfo(dtype).eps)


def _exact(forward: ModelRunner) -> ModelRunner | None:
    """The runner of a copy in float32; None if it cannot be copied, or the memory is too small for it."""
    if forward.entire:  # a sharded model
        return None
    try:
        module: nn.Module = copy.deepcopy(forward.module).float()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    made = forward.of(module)
    made.arithmetic = None
    return made


def _listed(values: Any) -> str:
    numbers = [int(value) for value in values]
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return f"[{shown}{', …' if len(numbers) > _SHOWN else ''}]"
