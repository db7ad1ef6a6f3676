"""How the tasks of a stage share its micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kdspec.api.component import Strict, invalid_value
from kdspec.api.spec.bounds import LARGEST_FACTOR


class Sampling(Strict):
    """The probability of each task for a micro-batch: its size to the power of `tau`, normalised, or given proportions."""

    tau: float = Field(default=1.0, ge=0, le=100)
    """Exponent of a task's size: 1 samples tasks in proportion to their data, 0 gives all the same share."""
    size: Literal["batches", "examples"] = "batches"
    """Unit of a task's size: batches of `batch_size` rows, as in TextBrewer, or examples."""
    proportions: dict[str, Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]] | None = None
    """In place of sizes, a number for each task: `{reviews: 3, topics: 1}` samples three times as many of the first."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [key for key in ("tau", "size") if getattr(self, key) != type(self).model_fields[key].default]
        if self.proportions is not None and given:
            message = f"`{given[0]}` and `proportions` exclude each other"
            raise invalid_value(message, type_="exclusive_keys", keys=[given[0], "proportions"])
        return self

    def probabilities(self, examples: Mapping[str, int], batch_size: int) -> dict[str, float]:
        """The probability of each task, by the numbers of their training rows and the rows of a micro-batch."""
        if self.proportions is not None:
            parts = {task: self.proportions[task] for task in examples}
        else:
            sizes = {
                task: -(-rows // batch_size) if self.size == "batches" else rows for task, rows in examples.items()
            }
            largest = max(sizes.values())
            parts = {task: (size / largest) ** self.tau for task, size in sizes.items()}  # no overflow for a large tau
        total = sum(parts.values())
        return {task: part / total for task, part in parts.items()}
