"""Recurrent layers as ONNX has them: torch's exporter would unroll them for the length of one example."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn


class OnnxGru(nn.Module):
    """`nn.GRU` as ONNX's operator `GRU`, for the export alone: it computes nothing in torch.

    Args:
        gru: the layer; with biases, and without a projection.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.batch_first, self.hidden = gru.batch_first, gru.hidden_size
        self.layers, self.directions = gru.num_layers, 2 if gru.bidirectional else 1
        for layer in range(gru.num_layers):
            ends = [f"l{layer}", f"l{layer}_reverse"][: self.directions]
            for kind in ("weight_ih", "weight_hh"):
                stacked = torch.stack([_gates(getattr(gru, f"{kind}_{end}")) for end in ends])
                self.register_buffer(f"{kind}_{layer}", stacked)
            biases = [_gates(getattr(gru, f"bias_{side}_{end}")) for end in ends for side in ("ih", "hh")]
            self.register_buffer(f"bias_{layer}", torch.cat(biases).reshape(self.directions, -1))

    def forward(self, states: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs and the final states, as `nn.GRU` gives them; `states` is `(batch, length, width)` if `batch_first`."""
        assert start is None, "no network here begins with a state"
        given = states.transpose(0, 1) if self.batch_first else states
        ends = []
        for layer in range(self.layers):
            length, rows = given.shape[0], given.shape[1]
            found, end = torch.onnx.ops.symbolic_multi_out(
                "GRU",
                [given, *(self.get_buffer(f"{kind}_{layer}") for kind in ("weight_ih", "weight_hh", "bias"))],
                attrs={
                    "hidden_size": self.hidden,
                    "linear_before_reset": 1,
                    "direction": "bidirectional" if self.directions == 2 else "forward",
                },
                dtypes=(given.dtype, given.dtype),
                shapes=((length, self.directions, rows, self.hidden), (self.directions, rows, self.hidden)),
                version=18,
            )
            given = found.transpose(1, 2).reshape(length, rows, self.directions * self.hidden)
            ends.append(end)
        return (given.transpose(0, 1) if self.batch_first else given), torch.cat(ends)


def with_onnx_layers(module: nn.Module) -> nn.Module:
    """The module with the layers of this file in place of torch's; a copy, if it has any."""
    if not any(isinstance(each, nn.GRU) for each in module.modules()):
        return module
    made = copy.deepcopy(module)
    for name, each in [*made.named_modules()]:
        if isinstance(each, nn.GRU):
            parent, _, own = name.rpartition(".")
            setattr(made.get_submodule(parent), own, OnnxGru(each))
    return made


def _gates(parameter: Tensor) -> Tensor:
    """The gates in ONNX's order, update, reset, new; torch has reset first."""
    reset, update, new = cast("list[Tensor]", parameter.detach().chunk(3))
    return torch.cat([update, reset, new])
