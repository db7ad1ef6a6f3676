"""The model `recorded`: a teacher without weights, whose answers are columns of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import Model, ModelContext

if TYPE_CHECKING:
    from torch import nn


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Recorded(Model):
    """A teacher that is known by its scores of the candidates, which are columns of the rows.

    It has no weights, no tokenizer and needs no cache, and cannot be trained. A row without a score, null in its column, is
    left out of the soft labels: it does not count in their mean. The other terms, such as hard labels, have it. At the end it
    is evaluated on the rows that have scores, as any teacher.
    """

    name = "recorded"
    scope = "position"
    has_weights = False

    scores: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = []
    """The column with a list of scores for each row, one for each candidate, or a column for each of the task's columns of
    documents: `[pos_scores, neg_scores]`. Default: the columns that the task names in `scores` or `margins`."""

    def form(self, context: ModelContext) -> str:
        """The recorded scores in place of texts."""
        del context
        return "scores"

    def records(self) -> tuple[str, ...]:
        """The columns of `scores`."""
        return tuple(self.scores)

    def build(self, context: ModelContext) -> nn.Module:
        """A module that hands the scores on."""
        from kdspec.networks.recorded_scores import RecordedScores

        del context
        return RecordedScores()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The model."""
    return [Recorded]
