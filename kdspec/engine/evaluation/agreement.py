"""How often two models predict the same class on a split, whatever the labels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdspec.api.kinds.losses import LogitKind
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.step import Features
from kdspec.objectives.soft_labels import outputs

AGREEMENT = Metric("agreement")


class Agreement(Evaluator):
    """The share of rows for which a model predicts the same class as the reference model.

    For tokens only those with a label are compared; with several heads all of them must agree. For multi-label tasks it is
    the share of equal decisions. There is no agreement between models with different classes.

    Args:
        kind: the kind of the logits.
        reference: the states of the reference model; None for that model itself.
    """

    primary = AGREEMENT

    def __init__(self, kind: LogitKind | None, reference: Sequence[State] | None = None) -> None:
        self.kind, self.reference = kind, reference

    def add(self, features: Features, batch: Batch) -> State:
        """For each head the predictions of all rows, their number for each row, and the number of classes."""
        found = {"rows": torch.tensor(batch.rows)}
        labels = features.heads("labels") or tuple(batch.targets.values())
        for head, logits in enumerate(outputs(features)):
            label = labels[min(head, len(labels) - 1)] if labels else None
            of_tokens = len(logits.shape) == 2
            if len(logits.shape) not in (1, 2) or logits.classes < 2:
                return {"rows": found["rows"]}
            if of_tokens and (label is None or logits.shape != label.shape):
                return {"rows": found["rows"]}
            known = torch.ones(logits.positions, 1, dtype=torch.bool)
            if of_tokens and label is not None:
                known = label != -100
            scores = (logits.select(known) if of_tokens else logits).dense().float()
            chosen = scores > 0 if self.kind == "labels" else scores.argmax(-1, keepdim=True)
            found |= {
                f"chosen.{head}": chosen.flatten(),
                f"counts.{head}": known.sum(1) * chosen.shape[-1],
                f"classes.{head}": torch.tensor(logits.classes),
            }
        return found

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """`agreement`, or nothing if the two models cannot be compared."""
        if self.reference is None or self.kind == "numbers":
            return {}
        heads = sum(name.startswith("chosen.") for name in states[0]) if states else 0
        same = []
        for head in range(heads):
            mine, theirs = _choices(states, head), _choices(self.reference, head)
            if mine is None or theirs is None or mine[0] != theirs[0] or mine[1].shape != theirs[1].shape:
                return {}
            same.append(mine[1] == theirs[1])
        if not same or f"chosen.{heads}" in self.reference[0] or not same[0].numel():
            return {}
        # In float64: a mean in float32 is inexact for more than 2^24 rows.
        return {AGREEMENT.name: float(torch.stack(same).all(0).double().mean())}


def _choices(states: Sequence[State], head: int) -> tuple[set[int], Tensor] | None:
    """The numbers of classes, and the predictions in the order of the rows; None without classes."""
    of_row: dict[int, Tensor] = {}
    classes = set()
    for state in states:
        if f"chosen.{head}" not in state:
            return None
        classes.add(int(state[f"classes.{head}"]))
        parts = torch.split(state[f"chosen.{head}"], state[f"counts.{head}"].tolist())
        of_row |= dict(zip(state["rows"].tolist(), parts, strict=True))
    return (classes, torch.cat([of_row[row] for row in sorted(of_row)])) if of_row else None
