"""Texts and their translations: training rows in which the student reads a translation, and how often it finds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdspec.data import texts
from kdspec.data.embedding.differing_pairs import ComparedPairs
from kdspec.data.embedding.evaluate_sets import BuiltSet
from kdspec.data.embedding.unique_texts import UniqueTexts, Vectors
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from kdspec.api.kinds.context import TaskContext
    from kdspec.data.texts import WithoutText

METRICS = ("accuracy", "to", "from")
"""The names of the metrics of a language."""


@dataclass
class ReadTexts:
    """The training rows of a split: what the student reads, and what a teacher reads of the same row."""

    student: list[str] = field(default_factory=list)
    teacher: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class TranslatedRows:
    """The rows of a split with their translations.

    Args:
        texts: the text of each row.
        languages: for each column of translations the translation of each row; None for none.
    """

    texts: Sequence[str]
    languages: Mapping[str, Sequence[str | None]]

    @classmethod
    def of(
        cls,
        rows: Any,
        split: str,
        text: str,
        columns: Sequence[str],
        without_text: WithoutText,
        context: TaskContext,
    ) -> TranslatedRows:
        """The rows of a split. The split `unlabelled` may lack columns of translations.

        Raises:
            Fault: KD312 for a missing column, KD502 for a row without a translation, unless these are left out.
        """
        texts.check_column(rows, split, text, ("text",))
        found = {}
        for place, column in enumerate(columns):
            if split != "unlabelled" or column in rows.column_names:
                texts.check_column(rows, split, column, ("translations", place))
                found[column] = _column(rows, split, column, place, without_text, context)
        return cls(texts=texts.read(rows, split, text, ("text",)), languages=found)

    def to_train_on(self) -> ReadTexts:
        """Each text, followed by its translations: the student reads them, a teacher always reads the text."""
        found = ReadTexts()
        for row, text in enumerate(self.texts):
            for read in (text, *(of[row] for of in self.languages.values())):
                if read is not None:
                    found.student.append(read)
                    found.teacher.append(text)
        return found

    def sets(self, unique: UniqueTexts, prompt: str | None) -> dict[str, TranslationPairs]:
        """The texts with their translations, by the column of these, to be found by a model."""
        made = {}
        for column, translations in self.languages.items():
            pairs = [(text, other) for text, other in zip(self.texts, translations, strict=True) if other is not None]
            if pairs:
                sides = [unique.add(side, prompt) for side in zip(*pairs, strict=True)]
                made[column] = TranslationPairs(sides[0], sides[1])
        return made


class TranslationPairs(BuiltSet):
    """Texts and translations by number: how often the nearest translation of a text is its own, and the other way round.

    Each different text is a candidate once. A text that has several translations among the rows has as many right answers,
    and so has a translation of several texts.
    """

    def __init__(self, sources: Sequence[int], translations: Sequence[int]) -> None:
        self.sources, self.translations = sources, translations

    def merge(self, vectors: Vectors) -> dict[str, float]:
        """`to` for texts to translations, `from` for translations to texts, and `accuracy`, their mean.

        Over the pairs of which both vectors are known; NaN without any.
        """
        there = vectors.known.tolist()
        pairs = zip(self.sources, self.translations, strict=True)
        known = [(source, other) for source, other in pairs if there[source] and there[other]]
        to = _share(vectors, known)
        back = _share(vectors, [(other, source) for source, other in known])
        return dict(zip(METRICS, ((to + back) / 2, to, back), strict=True))

    def pairs(self) -> ComparedPairs:
        """The texts with their translations."""
        return ComparedPairs(self.sources, self.translations)


def _share(vectors: Vectors, pairs: Sequence[tuple[int, int]]) -> float:
    """The share of pairs whose second text is found from the first one, among all second ones."""
    import torch

    from kdspec.ops.retrieval.neighbours import nearest_is_right

    queries, candidates = (list(dict.fromkeys(side)) for side in zip(*pairs, strict=True)) if pairs else ([], [])
    place = {number: at for at, number in enumerate(candidates)}
    right: dict[int, list[int]] = {query: [] for query in queries}
    for query, answer in pairs:
        right[query].append(place[answer])
    answers = [right[query] for query in queries]
    found = nearest_is_right(vectors.table[torch.tensor(queries, dtype=torch.long)], vectors.table[candidates], answers)
    at = {query: row for row, query in enumerate(queries)}
    return found[[at[query] for query, _ in pairs]].mean().item()


def _column(
    rows: Any, split: str, column: str, place: int, without_text: WithoutText, context: TaskContext
) -> list[str | None]:
    """The translations of the rows; None for a row that has none."""
    at = ("translations", place)
    values = rows[column][:]
    empty = [row for row, value in enumerate(values, 1) if texts.is_no_text(value)]
    if empty and without_text == "error":
        help_ = "rows are counted from 1; `without_text: leave_out` leaves such translations out"
        raise Fault(texts.CODE, f"row {empty[0]} of `{split}` has no text in `{column}`", at, help=help_)
    if len(empty) == len(values):
        raise Fault(texts.CODE, f"no row of `{split}` has a text in `{column}`", at)
    if empty:
        left_out = "1 row" if len(empty) == 1 else f"{len(empty)} rows"
        message = f"{left_out} of `{split}` without a translation in `{column}` {'is' if len(empty) == 1 else 'are'} read without it"
        context.tell(Fault("KD316", message, at))
    read = iter(
        texts.read(rows.select([r for r in range(len(values)) if not texts.is_no_text(values[r])]), split, column, at)
    )
    return [None if texts.is_no_text(value) else next(read) for value in values]
