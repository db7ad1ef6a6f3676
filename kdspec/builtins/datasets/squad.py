"""Data sets of questions on texts, in SQuAD's format."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.data.files.file_text import FileMistake, text_of
from kdspec.data.files.json_rows import parsed
from kdspec.data.files.row_files import RowFiles, RowPlace, arrow, joined

_COLUMNS = ("id", "title", "context", "question", "answers")


class Squad(RowFiles):
    """Questions on texts in the JSON format of SQuAD 1.1 and 2.0, also used by CMRC 2018, DRCD and others.

    Each question is a row with `id`, `title`, `context`, `question` and `answers`, which are lists of their `text` and
    of where each begins in the context, `answer_start`; both are empty if there is no answer, and None if the file does
    not say.
    """

    name = "squad"

    def column_names(self, context: BuildContext) -> dict[str, Collection[str]]:
        """The columns, which do not depend on the files."""
        names = super().column_names(context)
        return {**names, "train": _COLUMNS}

    def _names(self, file: Path) -> Collection[str]:
        del file
        return _COLUMNS

    def _table(self, files: list[Path], at: RowPlace) -> Any:
        return arrow(joined([_columns(parsed(text_of(file), 1)) for file in at.each(files)], at), at)


def _columns(whole: Any) -> dict[str, list[Any]]:
    rows = list(_rows(whole))
    if not rows:
        raise FileMistake("the file has no questions")
    return {name: [row[name] for row in rows] for name in _COLUMNS}


def _rows(whole: Any) -> Iterator[dict[str, Any]]:
    for number, article in enumerate(_list(whole, "data", "")):
        place = f"data[{number}]"
        for within, paragraph in enumerate(_list(article, "paragraphs", place)):
            inside = f"{place}.paragraphs[{within}]"
            context = _text(paragraph, "context", inside)
            for which, question in enumerate(_list(paragraph, "qas", inside)):
                here = f"{inside}.qas[{which}]"
                yield {
                    "id": str(_value(question, "id", here)),
                    "title": str(article.get("title", "")),
                    "context": context,
                    "question": _text(question, "question", here),
                    "answers": _answers(question, here),
                }


def _answers(question: dict[str, Any], here: str) -> dict[str, list[Any]] | None:
    if question.get("is_impossible") is True:
        return {"text": [], "answer_start": []}
    if "answers" not in question:
        return None
    found: dict[str, list[Any]] = {"text": [], "answer_start": []}
    for number, answer in enumerate(_list(question, "answers", here)):
        at = f"{here}.answers[{number}]"
        found["text"].append(_text(answer, "text", at))
        start = _value(answer, "answer_start", at)
        if type(start) is not int:
            raise FileMistake(f"`{at}.answer_start` is not an integer")
        found["answer_start"].append(start)
    return found


def _value(holder: Any, key: str, place: str) -> Any:
    if not isinstance(holder, dict) or key not in holder:
        where = f"`{place}`" if place else "the file"
        raise FileMistake(f"{where} has no key `{key}`", help="SQuAD's files have `data`, `paragraphs` and `qas`")
    return holder[key]


def _list(holder: Any, key: str, place: str) -> list[Any]:
    value = _value(holder, key, place)
    if not isinstance(value, list):
        raise FileMistake(f"`{f'{place}.{key}'.strip('.')}` is not a list")
    return value


def _text(holder: Any, key: str, place: str) -> str:
    value = _value(holder, key, place)
    if not isinstance(value, str):
        raise FileMistake(f"`{place}.{key}` is not a string")
    return value


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The data set."""
    return [Squad]
