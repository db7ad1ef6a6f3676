"""The objective of a strategy: it computes losses from the features of a step, and declares what it needs of the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from kdspec.api.working.step import Step, Term, View


class Objective(nn.Module, ABC):
    """Turns a step into terms. Its parameters are trained, clipped and saved with the student; its buffers are saved.

    The attributes declare capabilities; the engine relies on no others. A subclass sets them on the class, or on the
    instance if they depend on its parts.
    """

    reads_teachers_by_matches: bool = False
    """Whether it reads layers of teachers through matches only. A teacher cache may then store the reductions that the
    losses of the matches need (`FeatureLoss.reduces`) in place of whole layers."""
    keeps_nothing: bool = False
    """Whether `forward` is stateless between micro-batches. Micro-batches may then be computed in parallel
    (`training.lanes`), each with a replica of the objective."""
    changes_modules: bool = False
    """Whether it changes the models' modules: `on_step_begin` then gets them. Such a strategy cannot be combined with
    FSDP2, and has neither a teacher cache nor compiled layers."""
    makes_batches: bool = False
    """Whether it makes its own batches, by `make_batches`; the restrictions of `changes_modules` apply."""

    compares_steps: bool = False
    """Whether it has terms over whole optimizer steps: `views` and `relate` are then called beside `forward`."""

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Term]:
        """The terms of a micro-batch by name; their weighted sum is minimised."""

    def views(self, step: Step) -> dict[str, View]:
        """For each term over a whole optimizer step, the tensors of this micro-batch that its loss compares.

        Called twice for each micro-batch, with the same features: the second time with a graph.
        """
        del step
        return {}

    def relate(self, views: Mapping[str, View], progress: float) -> dict[str, Term]:
        """The terms over a whole optimizer step, from the concatenated views of all its micro-batches and processes.

        A term has the name of its view.
        """
        del views, progress
        return {}

    def on_step_begin(self, progress: float, models: Mapping[str, nn.Module]) -> None:
        """Called once per optimizer step, before the first forward pass.

        Args:
            progress: the fraction of the stage's optimizer steps that are done.
            models: student and teachers by name; empty unless the objective `changes_modules`.
        """

    def make_batches(self, batches: Mapping[str, Any], models: Mapping[str, nn.Module]) -> dict[str, Any]:
        """The batch of each model, in place of the one from the data.

        Called for each micro-batch of a step before the first forward pass, if the objective `makes_batches`. Random
        numbers must depend on seed, step and micro-batch only.

        Args:
            batches: the batch of each model by the model's name, on the device.
            models: student and teachers by name.
        """
        del models
        return dict(batches)

    def on_step_end(self, progress: float) -> None:
        """Called once per optimizer step, after the weights are updated and before evaluation and checkpoints."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Mappings with `name`, `params` and options of the optimizer. All other parameters form a group of their own."""
        return []

    def path_of(self, term: str) -> tuple[str | int, ...]:
        """The path of a term in the strategy's parameters, for messages. The plan has the paths of matches."""
        del term
        return ()

    if TYPE_CHECKING:

        def __call__(self, step: Step) -> dict[str, Term]:
            """As `forward`, with its types."""
