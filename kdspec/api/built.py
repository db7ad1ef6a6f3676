"""What distillers build: their working objects, as the engine sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kdspec.api.step import Step, Term


class Objective(Protocol):
    """An `nn.Module` that turns a step into terms; its parameters are trained with the student.

    It may also have `prepare(batch, models) -> batch`, for a strategy that makes its own batches (the inputs and the
    module of each model by its name), `on_step(progress)`, for one that changes modules as it goes, and
    `parameter_groups()`, mappings with `name`, `params` and the optimizer options of each group; parameters that are in
    none of them form a group of their own.
    """

    def __call__(self, step: Step) -> dict[str, Term]:
        """The terms of this step by name; their weighted sum is what is minimised."""
        ...
