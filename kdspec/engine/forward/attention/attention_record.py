"""Attention maps of a forward pass as they were before dropout, and before the softmax."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kdspec.api.paths.field_path import FieldPath

SCORES = "attention_scores"
"""The name, in an output of a transformers model, of the values before the softmax: there is none by this name."""
MASKED = -1e2
"""Scores at most this large are made by masks. They are 0, as in TinyBERT's code."""

_MAPS = 4
"""Dimensions of attention maps, `(batch, heads, length, length)`; hidden states have three."""
_SCORES = re.compile(rf"{SCORES}\b")


class AttentionRecord(TorchFunctionMode):
    """A mode that records the dropouts and softmaxes of attention maps, by the tensors that they return.

    Args:
        scores: whether the values before the softmax are asked for; they are kept until the record is dropped.
    """

    def __init__(self, *, scores: bool) -> None:
        super().__init__()
        self._keeps_scores = scores
        # Each with the tensor that was returned, which is kept alive so that its id is not reused.
        self._undropped: dict[int, tuple[Tensor, Tensor]] = {}
        self._scores: dict[int, tuple[Tensor, Tensor]] = {}
        self._softmaxes: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, and record it."""
        del types
        made = func(*args, **(kwargs or {}))
        record = self._of.get(func)
        if record is not None and isinstance(made, Tensor) and made.ndim == _MAPS:
            given = args[0] if args else (kwargs or {})["input"]
            record(self, given, made)
        return made

    def undropped(self, value: Tensor) -> Tensor:
        """The map before dropout; the map itself if no dropout has returned it."""
        _, before = self._undropped.get(id(value), (value, value))
        return before

    def scores(self, value: Tensor) -> Tensor:
        """The values before the softmax of a map; where a mask has made them, 0.

        Raises:
            LookupError: no softmax has returned the map.
        """
        before = self.undropped(value)
        if id(before) not in self._scores:
            raise LookupError
        _, scores = self._scores[id(before)]
        return torch.where(scores <= MASKED, 0.0, scores)

    def is_certain(self, value: Tensor) -> bool:
        """Whether the map before dropout is known, or no map had any."""
        return id(value) in self._undropped or id(value) in self._softmaxes or not self._undropped

    def _dropout(self, given: Tensor, made: Tensor) -> None:
        if made is not given:
            self._undropped[id(made)] = made, given

    def _softmax(self, given: Tensor, made: Tensor) -> None:
        self._softmaxes[id(made)] = made
        if self._keeps_scores:
            self._scores[id(made)] = made, given

    def _converted(self, given: Tensor, made: Tensor) -> None:
        if id(given) in self._softmaxes:
            self._softmaxes[id(made)] = made
        if id(given) in self._scores:
            self._scores[id(made)] = made, self._scores[id(given)][1]

    _of: Mapping[Any, Callable[[AttentionRecord, Tensor, Tensor], None]] = MappingProxyType(
        {
            functional.dropout: _dropout,
            torch.dropout: _dropout,
            functional.softmax: _softmax,
            torch.softmax: _softmax,
            Tensor.softmax: _softmax,
            Tensor.to: _converted,
            Tensor.type_as: _converted,
            Tensor.float: _converted,
            Tensor.half: _converted,
            Tensor.bfloat16: _converted,
        }
    )


def of_maps(path: FieldPath) -> FieldPath | None:
    """The path of the maps whose scores a path names: `output.attentions`; None for another path."""
    if path.root != "output" or not any(name.endswith(SCORES) for name in path.attributes):
        return None
    return FieldPath(_SCORES.sub("attentions", str(path)))
