"""The rows on which a model is evaluated or compared: of a recorded teacher those that it has answered."""

from __future__ import annotations

from collections.abc import Sequence

from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader


def answered(task: BuiltTask, split: str, model: str) -> Sequence[bool] | None:
    """For each row of a split whether a model has answered it; None if it has answered all of them."""
    found = task.answered_by(split, model)
    return None if found is None or all(found) else found


def encoded_rows(loader: Loader, model: str, of: Sequence[bool]) -> list[int]:
    """The rows of a loader that belong to some rows of its split: a long sentence is several of them."""
    encoded = loader.encoded(model)[loader.split]
    return [number for number, row in enumerate(encoded) if of[row.get("sentence", number)]]
