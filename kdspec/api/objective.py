"""The objective of a strategy: what turns the features of a step into losses, and what it needs of the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from kdspec.api.step import Step, Term, View


class Objective(nn.Module, ABC):
    """Turns a step into terms. Its parameters are trained, clipped and saved with the student; its buffers are saved.

    The attributes are capabilities: what an objective does not declare, the engine does not rely on. A subclass sets them
    on the class, or on the instance where they depend on its parts.
    """

    reads_teachers_by_matches: bool = False
    """Whether it reads layers of teachers through matches only. A teacher cache may then keep what is enough for the
    losses of the matches (`FeatureLoss.reduces`) in place of whole layers."""
    keeps_nothing: bool = False
    """Whether `forward` keeps nothing from one micro-batch to the next. Micro-batches may then be computed in parallel
    (`training.lanes`), each with a replica of the objective."""
    changes_modules: bool = False
    """Whether it works on the models' modules: `on_step_begin` then gets them. Such a strategy cannot be combined with
    FSDP2, and has neither a teacher cache nor compiled layers."""
    makes_batches: bool = False
    """Whether it has batches of its own, made by `make_batches`; the same holds for it as for `changes_modules`."""

    compares_steps: bool = False
    """Whether it has terms over whole optimizer steps: `views` and `relate` are then called beside `forward`."""

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Term]:
        """The terms of a micro-batch by name; their weighted sum is minimised."""

    def views(self, step: Step) -> dict[str, View]:
        """For each term over a whole optimizer step what its loss compares of this micro-batch.

        Called twice for each micro-batch, with the same features: the second time with a graph.
        """
        del step
        return {}

    def relate(self, views: Mapping[str, View], progress: float) -> dict[str, Term]:
        """The terms over a whole optimizer step, from the views of all its micro-batches and processes put together.

        A term has the name of the view that it is made of.
        """
        del views, progress
        return {}

    def on_step_begin(self, progress: float, models: Mapping[str, nn.Module]) -> None:
        """Called once per optimizer step, before the first forward pass.

        Args:
            progress: the optimizer steps done so far, as a part of the stage.
            models: student and teachers by name; empty unless the objective `changes_modules`.
        """

    def make_batches(self, batches: Mapping[str, Any], models: Mapping[str, nn.Module]) -> dict[str, Any]:
        """The batch of each model in place of the one from the data, for each micro-batch of a step before the first
        forward pass; called only where it `makes_batches`. Random numbers depend on seed, step and micro-batch alone.

        Args:
            batches: the batch of each model by the model's name, on the device.
            models: student and teachers by name.
        """
        del models
        return dict(batches)

    def on_step_end(self, progress: float) -> None:
        """Called once per optimizer step, when the weights have changed and before anything is evaluated or saved."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Mappings with `name`, `params` and options of the optimizer. Parameters in none form a group of their own."""
        return []

    def path_of(self, term: str) -> tuple[str | int, ...]:
        """The keys of the strategy's parameters that a term is written below, for messages; of a match the plan knows."""
        del term
        return ()

    if TYPE_CHECKING:

        def __call__(self, step: Step) -> dict[str, Term]:
            """As `forward`, with its types."""
