"""The rows on which a model is evaluated and compared: of a recorded teacher those that it has answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.evaluate import Outcome


@dataclass(frozen=True)
class ComparedRows:
    """Evaluates the models of a table, those with which the others are compared first."""

    references: Mapping[str, str]
    """For each task the model with which the others are compared."""
    _of: dict[str, Sequence[bool]] = field(default_factory=dict, init=False)
    """For each task the rows that its reference model has answered, where these are not all."""

    def outcomes(
        self, evaluated: Callable[[list[int] | None], Outcome], task: tuple[str, BuiltTask], loader: Loader, model: str
    ) -> tuple[Outcome, Outcome]:
        """The outcome of a model on all rows that it has answered, and on those that the reference model has answered too.

        Args:
            evaluated: evaluates the model on some rows of the loader; None for all.
            task: the task, after its name.
            loader: the rows for the model.
            model: the name of the model.
        """
        known, is_reference = answered(task[1], loader.split, model), self.references.get(task[0]) == model
        if is_reference and known is not None:
            self._of[task[0]] = known
        outcome = _evaluated(evaluated, loader, model, known)
        shared = self._of.get(task[0])
        if shared is None or is_reference:
            return outcome, outcome
        both = [mine and its for mine, its in zip(known or [True] * len(shared), shared, strict=True)]
        return outcome, _evaluated(evaluated, loader, model, both)


def answered(task: BuiltTask, split: str, model: str) -> Sequence[bool] | None:
    """For each row of a split whether a model has answered it; None if it has answered all of them."""
    found = task.answered_by(split, model)
    return None if found is None or all(found) else found


def encoded_rows(loader: Loader, model: str, of: Sequence[bool]) -> list[int]:
    """The rows of a loader that belong to some rows of its split: a long sentence is several of them."""
    encoded = loader.encoded(model)[loader.split]
    return [number for number, row in enumerate(encoded) if of[row.get("sentence", number)]]


def _evaluated(
    evaluated: Callable[[list[int] | None], Outcome], loader: Loader, model: str, of: Sequence[bool] | None
) -> Outcome:
    rows = None if of is None else encoded_rows(loader, model, of)
    return Outcome({}) if rows == [] else evaluated(rows)
