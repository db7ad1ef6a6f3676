"""Optimal transport between the layers of two models, as pure functions of tensors.

Li et al. 2020, "BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth Mover's Distance" (EMNLP,
https://arxiv.org/abs/2010.06133).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

SMALLEST = 1e-6
"""The smallest weight of a layer. A layer of weight 0 would have no cost, so its weight could never grow again."""


def plan(costs: Tensor, supply: Tensor, demand: Tensor) -> Tensor:
    """The flows F >= 0 of least total cost `Σ F · costs`.

    A constant: no gradient goes through it. It is a vertex of the feasible set, found exactly by the simplex method.
    If a cost is not finite, there is no such plan; the result is the product of the marginals.

    Args:
        costs: (student layers, teacher layers).
        supply: weights of the student layers, positive; normalised to the sum 1.
        demand: weights of the teacher layers, likewise.

    Returns:
        (student layers, teacher layers) in float64 on the CPU; it sums to 1.
    """
    rows, columns = costs.shape
    given = costs.detach().double().cpu()
    s, t = (weights.detach().double().cpu() / weights.detach().double().sum().cpu() for weights in (supply, demand))
    if not given.isfinite().all():
        return s[:, None] * t
    largest = float(given.abs().max())
    cost = (given / largest if largest else given).numpy()
    leaving = np.repeat(np.eye(rows), columns, axis=1)
    arriving = np.tile(np.eye(columns), rows)
    # One constraint is left out: it follows from the others, since both sides sum to 1 up to rounding.
    constraints = np.concatenate([leaving, arriving[:-1]])
    sums = np.concatenate([s.numpy(), t.numpy()[:-1]])
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(cost.ravel(), A_eq=constraints, b_eq=sums, method="highs-ds", options=tight)
    assert found.status == 0, f"a transport problem always has a solution, but: {found.message}"
    return torch.from_numpy(np.maximum(found.x, 0.0).reshape(rows, columns))


def unit_costs(flows: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
    """The cost of moving a unit from each student layer, and to each teacher layer.

    The cost `Σ F · costs` of a layer's row, or column, divided by the layer's weight, which is the sum of its flows.

    Args:
        flows: F, (student layers, teacher layers).
        costs: likewise.
    """
    moved = flows * costs.detach().double().cpu()
    return moved.sum(1) / flows.sum(1).clamp_min(SMALLEST), moved.sum(0) / flows.sum(0).clamp_min(SMALLEST)


def weights(units: list[Tensor], temperature: float) -> Tensor:
    """The layers' new weights: softmax(w / temperature), w_i the mean over the kinds of `Σ_j u_j / u_i`.

    So a layer that is cheap to move has a larger weight.

    Args:
        units: for each kind of transport (hidden states, attention) the unit costs u of the layers.
        temperature: the higher, the more equal the weights.

    Returns:
        Positive weights that sum to 1, in float64.
    """
    ratios = [u.sum() / u.clamp_min(SMALLEST * u.max()) if u.max() > 0 else torch.ones_like(u) for u in units]
    new = (torch.stack(ratios).mean(0) / temperature).softmax(0).clamp_min(SMALLEST)
    return new / new.sum()
