"""Finds the rows of other splits that stand in `train` as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from kdspec.api.working.task import BuiltTask, Row

_SPLITS = ("validation", "test")
_MOST = 200_000
"""Encoded rows of which digests are made; texts are compared whatever their number."""


@dataclass(frozen=True)
class Repeated:
    """The number of rows of each split that stand in `train`, or the reason why it is not known."""

    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def in_train(task: BuiltTask, encoded: Mapping[str, Sequence[Row]], targets: Collection[str]) -> Repeated:
    """Count the rows of validation and test that stand in `train`: by their texts, or else by what the models read.

    Args:
        task: the task.
        encoded: its encoded rows by split.
        targets: the entries of a row that are labels, and so are not compared.
    """
    others = [split for split in _SPLITS if split in encoded]
    if not others or "train" not in encoded:
        return Repeated()
    known = set(task.compared("train"))
    if known:
        return Repeated({split: sum(text in known for text in task.compared(split)) for split in others})
    if max(map(len, encoded.values())) > _MOST:
        return Repeated(
            left_out=(f"rows that stand in `train`: its texts are not known, and it has over {_MOST:,} rows",)
        )
    train = _digests(encoded["train"], targets)
    digests = {split: _digests(encoded[split], targets) for split in others}
    if train is None or any(made is None for made in digests.values()):
        return Repeated(left_out=("rows that stand in `train`: its texts are not known",))
    there = set(train)
    return Repeated({split: sum(each in there for each in made or ()) for split, made in digests.items()})


def _digests(rows: Iterable[Row], targets: Collection[str]) -> list[bytes] | None:
    """A digest of the inputs of each row; None if a row has values that have none."""
    found = []
    for row in rows:
        digest = hashlib.blake2b(digest_size=16)
        for key in sorted(row.keys() - targets):
            value = plain(row[key])
            if value is None:
                return None
            digest.update(f"{key}\0{value}\0".encode(errors="surrogatepass"))
        found.append(digest.digest())
    return found


def plain(value: Any) -> str | None:
    """A value in words that are equal for equal values; None if it is no number, text, or list of these."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        parts = [plain(part) for part in value]
        return None if None in parts else f"[{','.join(part or '' for part in parts)}]"
    return repr(value) if isinstance(value, (str, bytes, int, float)) or value is None else None
