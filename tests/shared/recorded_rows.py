"""Recorded answers of a few rows, read as a run reads them."""

from __future__ import annotations

from kdspec.api.kinds.recorded import RecordedRows
from kdspec.data.answers.recorded.read_answers import AnswerColumns, read_answers


def read(
    cells, form="probabilities", *, classes=("ham", "spam"), logits="classes", words=None, labels=None, tail="spread",
    named=True, split="train",
):  # fmt: skip
    """The answers to some rows, and what is told of them.

    `cells` are those of the column `judge`, or by column, which is then the class, or an annotator for votes.
    """
    told = []
    columns = cells if isinstance(cells, dict) else {"judge": cells}
    naming = "judge" if not isinstance(cells, dict) else list(cells) if form == "votes" else {c: c for c in cells}
    found = read_answers(
        AnswerColumns(form=form, named=naming, labels=labels or {}, tail=tail),
        RecordedRows(
            split=split, columns=columns, logits=logits, task="mail", classes=classes, words=words, named=named,
            tell=told.append,
        ),
    )  # fmt: skip
    return found, [(fault.severity, fault.message, fault.help) for fault in told]
