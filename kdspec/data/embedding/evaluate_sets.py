"""Sets of texts on which the vectors of a model are evaluated: each states its texts, and makes metrics of their vectors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, WithJsonSchema

from kdspec.api.component import Strict
from kdspec.api.kinds.kinds import Dataset
from kdspec.data import texts
from kdspec.data.columns import ColumnPlace, missing
from kdspec.data.embedding.differing_pairs import ComparedPairs
from kdspec.data.embedding.unique_texts import UniqueTexts, Vectors
from kdspec.data.numbers import advice, described, is_missing, number
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.kinds.context import BuildContext, TaskContext
    from kdspec.data.texts import WithoutText

SPLITS = ("validation", "test")
"""The splits that models are evaluated on."""


class BuiltSet(ABC):
    """A set of one split. It has added its texts to those of the split, and keeps their numbers."""

    @abstractmethod
    def merge(self, vectors: Vectors) -> Mapping[str, float]:
        """Its metrics by name, always the same names; NaN for one that these vectors do not give."""

    def beside(self, mine: Vectors, theirs: Vectors) -> Mapping[str, float]:
        """Metrics of a student's vectors beside those of its teacher; by default none."""
        del mine, theirs
        return {}

    @abstractmethod
    def pairs(self) -> ComparedPairs:
        """Its pairs, on which a student is compared with its teacher."""


@dataclass(frozen=True, kw_only=True)
class SetDefaults:
    """What a set has from its task."""

    prompt: str | None = None
    """The name of the prompt of its texts."""
    without_text: WithoutText = "error"
    """What happens to a row without a text."""


class EvaluateSet(Strict):
    """A set as a spec writes it."""

    metrics: ClassVar[tuple[str, ...]] = ()
    """The names of its metrics; the first one selects the best student."""

    @abstractmethod
    def has_split(self, split: str) -> bool | None:
        """Whether it has texts for a split; None: not known before it is built."""

    @abstractmethod
    def check(self, context: BuildContext) -> Iterator[Fault]:
        """What is wrong with its files, as far as reading little of them shows; places are below the set."""

    @abstractmethod
    def build(
        self, context: TaskContext, unique: Mapping[str, UniqueTexts], default: SetDefaults
    ) -> Mapping[str, BuiltSet]:
        """The set of each split that it has; it adds its texts to `unique`, by split."""


class ScoredPairs(EvaluateSet):
    """Pairs of texts with scores, such as those of people: a higher score means that two texts are more alike.

    Metrics: Spearman's and Pearson's correlation of the scores with the cosine of two vectors, `spearman` and `pearson`, and
    with their dot product, `spearman_dot` and `pearson_dot`.
    """

    metrics = ("spearman", "pearson", "spearman_dot", "pearson_dot")

    data: Annotated[Dataset, WithJsonSchema({"x-kdspec-kind": "dataset", "x-kdspec-partial": True})]
    """The rows: the splits `validation` and `test`. Other splits are not read."""
    text: Annotated[list[str], Field(min_length=2, max_length=2)]
    """The columns of the two texts."""
    score: str
    """The column of the score: a number for each row."""

    def has_split(self, split: str) -> bool | None:
        """As its data set."""
        return self.data.has_split(split)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether it has a split that is evaluated, and its columns."""
        if all(self.has_split(split) is False for split in SPLITS):
            help_ = "name the files of `validation`, by which the best student is selected, or of `test`"
            yield Fault("KD502", "the set has neither `validation` nor `test` rows", ("data",), help=help_)
        splits = {split: names for split, names in texts.columns_of(self.data, context).items() if split in SPLITS}
        wanted: dict[ColumnPlace, str] = {**self._texts, ("score",): self.score}
        yield from missing(splits, wanted, {})

    @property
    def _texts(self) -> dict[ColumnPlace, str]:
        return {("text", place): column for place, column in enumerate(self.text)}

    def build(
        self, context: TaskContext, unique: Mapping[str, UniqueTexts], default: SetDefaults
    ) -> dict[str, BuiltSet]:
        """Read the pairs and their scores.

        Raises:
            Fault: KD312 for a missing column, KD502 for rows that cannot be read and for scores that are no numbers or all
                equal.
        """
        splits = texts.splits_of(
            self.data,
            context,
            (self.score,),
            inputs=self._texts,
            without_text=default.without_text,
            only=SPLITS,
        )
        if not splits:
            raise Fault("KD502", "the set has neither `validation` nor `test` rows", ("data",))
        return {split: self._pairs(rows, split, unique[split], default.prompt) for split, rows in splits.items()}

    def _pairs(self, rows: Any, split: str, unique: UniqueTexts, prompt: str | None) -> BuiltPairs:
        for at, column in {**self._texts, ("score",): self.score}.items():
            texts.check_column(rows, split, column, at)
        sides = [unique.add(texts.read(rows, split, column, at), prompt) for at, column in self._texts.items()]
        return BuiltPairs(sides[0], sides[1], self._scores(rows[self.score][:], split))

    def _scores(self, values: Sequence[Any], split: str) -> list[float]:
        found = []
        for row, value in enumerate(values, 1):
            made = number(value)
            if made is None:
                what = "no number" if is_missing(value) else f"{described(value)}, not a number,"
                help_ = "rows are counted from 1; every pair of the set needs a score"
                message = f"row {row} of `{split}` has {what} in `{self.score}`"
                raise Fault(texts.CODE, message, ("score",), help=help_ if is_missing(value) else advice_of(value))
            found.append(made)
        if min(found) == max(found):
            message = (
                f"all scores of `{split}` in `{self.score}` are {found[0]:g}: a correlation with them is not defined"
            )
            raise Fault(texts.CODE, message, ("score",), help="name the column of the scores, or leave this split out")
        return found


def advice_of(value: Any) -> str:
    """What to do about a score that cannot be read; none can be missing."""
    told = advice(value)
    return told if "missing" not in told else "rows are counted from 1; every pair of the set needs a score"


class BuiltPairs(BuiltSet):
    """Pairs of texts by number, with a score each."""

    def __init__(self, first: Sequence[int], second: Sequence[int], scores: Sequence[float]) -> None:
        self.first, self.second, self.scores = first, second, scores

    def merge(self, vectors: Vectors) -> dict[str, float]:
        """The correlations over the pairs of which both vectors are known; NaN for fewer than two."""
        import torch

        from kdspec.ops.correlation import pearson, ranks
        from kdspec.ops.retrieval.neighbours import directions

        first, second = torch.tensor(self.first), torch.tensor(self.second)
        scores = torch.tensor(self.scores, dtype=torch.float64)
        kept = vectors.known[first] & vectors.known[second]
        one, two = (vectors.table[side[kept]].double() for side in (first, second))
        dot = (one * two).sum(-1)
        cosine = (directions(one) * directions(two)).sum(-1)

        def correlations(values: Tensor) -> tuple[float, float]:
            if len(values) < 2 or not values.isfinite().all():
                return math.nan, math.nan
            truth = scores[kept]
            return pearson(ranks(values), ranks(truth)).item(), pearson(values, truth).item()

        found = (*correlations(cosine), *correlations(dot))
        return dict(zip(ScoredPairs.metrics, found, strict=True))

    def pairs(self) -> ComparedPairs:
        """The pairs with their scores."""
        return ComparedPairs(self.first, self.second, self.scores)


@contextmanager
def below(*keys: str | int) -> Iterator[None]:
    """The place of a fault is below these keys."""
    try:
        yield
    except Fault as fault:
        fault.at = (*keys, *fault.at)
        raise


def placed(context: TaskContext, *keys: str | int) -> TaskContext:
    """The context of a part of a task: what it tells is below these keys."""

    def tell(fault: Fault) -> None:
        fault.at = (*keys, *fault.at)
        context.tell(fault)

    return replace(context, tell=tell)
