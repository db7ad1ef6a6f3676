"""The share of rows for which two models have the same answer, for the evaluators of anyone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdspec.api.working.evaluator import State

if TYPE_CHECKING:
    from torch import Tensor


def share_of_same(
    states: Sequence[State], reference: Sequence[State], answers: str, known: str | None = None
) -> float | None:
    """The share of equal answers of two models; None if they cannot be compared.

    Rows correspond by their numbers, since models with tokenizers of their own are evaluated in other batches. Models with
    other classes, or with other rows, cannot be compared.

    Args:
        states: of a model: `rows` with the number of the row of each answer, the answers, and the number of `classes` if
            there are any.
        reference: those of the other model.
        answers: the name of the answers in a state; equal along the first axis with `rows`.
        known: the name of a boolean tensor like the answers: only these are compared, unless there are none.
    """
    if not states or not reference or _classes(states) != _classes(reference):
        return None
    rows, mine = _in_order(states, answers)
    others, theirs = _in_order(reference, answers)
    if not rows.equal(others) or mine.shape != theirs.shape:
        return None
    same = mine == theirs
    if known is not None and (kept := _in_order(states, known)[1]).any():
        same = same[kept]
    # In float64: a mean in float32 is inexact for more than 2^24 answers.
    return same.double().mean().item() if same.numel() else None


def _classes(states: Sequence[State]) -> set[int]:
    return {int(state["classes"]) for state in states if "classes" in state}


def _in_order(states: Sequence[State], name: str) -> tuple[Tensor, Tensor]:
    """The row numbers and the values, by row number."""
    import torch

    rows = torch.cat([state["rows"] for state in states])
    order = rows.argsort(stable=True)
    return rows[order], torch.cat([state[name] for state in states])[order]
