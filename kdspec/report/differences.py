"""The rows on which a student and its teacher differ most, for a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Row = Mapping[str, Any]
"""A row as `table.json` has it."""
_MODELS = 20


def difference_sections(table: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """For each student the title and the HTML of its section; none for one that answers all rows as its teacher does."""
    found = [row for row in table if row.get("errors") and row["errors"]["differing"]][:_MODELS]
    compared = [row for row in table if row.get("errors") and row["errors"]["compared"]]
    for row in found:
        of = ": " + ", ".join(_told_apart(row, compared)) if len(compared) > 1 else ""
        yield f"Where student and teacher differ{of}", _rows(row)


def _told_apart(row: Row, others: Sequence[Row]) -> Iterator[str]:
    """What a title needs to differ from the others."""
    for key in ("model", "task"):
        if len({each[key] for each in others}) > 1:
            yield row[key]


def _rows(row: Row) -> str:
    errors = row["errors"]
    numbers = errors["differ"] is None
    of_all = f"{errors['compared']:,} {row['split']} {errors['counted']}"
    order = errors["order"]
    if numbers:
        text = f"The largest differences between {row['model']} and its teacher, of {of_all}."
    else:
        text = f"On {errors['differ']:,} of {of_all} the {errors['answer']} of {row['model']} differs from that of its teacher."
        order = order or "The rows on which both are most confident come first."
    text += f" {order}" if order else ""
    if row["split"] == "test":
        text += " Settings that are chosen by looking at test rows make the test too good."
    cards = "".join(
        _card(each, numbers=numbers, confident=errors["number"] == "confidence") for each in errors["differing"]
    )
    return f'<p class="note">{escape(text)}</p><ol class="rows">{cards}</ol>'


def _card(found: Mapping[str, Any], *, numbers: bool, confident: bool) -> str:
    number = None if found["row"] is None else f"row {found['row']:,}"
    about = escape(" · ".join(part for part in (number, found["about"]) if part))
    right = found["right"]
    if len(right) != len(found["answers"]):
        right = [(None, None) if numbers else _is_label(answer) for answer in found["answers"]]
    texts = "".join(f'<p class="text">{"".join(map(_part, parts))}</p>' for parts in found["texts"])
    answers = "".join(
        _answer(answer, marks, confident=confident) for answer, marks in zip(found["answers"], right, strict=True)
    )
    return f"<li><small>{about}</small>{texts}{answers}</li>"


def _is_label(answer: Sequence[Any]) -> tuple[bool | None, bool | None]:
    """Whether the student's and the teacher's answer is the label; None without one."""
    _, label, mine, _, teachers, _ = answer
    return (None, None) if label is None else (mine == label, teachers == label)


def _part(part: Sequence[Any]) -> str:
    text, marked = part
    return f"<mark>{escape(text)}</mark>" if marked else escape(text)


def _answer(answer: Sequence[Any], right: Sequence[bool | None], *, confident: bool) -> str:
    """One answer: the label, the student's and the teacher's, each with its confidence or score and whether it is right."""
    part, label, *given = answer
    items = [] if label is None else [("label", escape(label))]
    sides = zip(("student", "teacher"), given[::2], given[1::2], right, strict=True)
    for who, text, number, is_right in sides:
        sign = "" if is_right is None else _right(is_right)
        beside = "" if number is None else f" <small>{_percent(number) if confident else f'{number:.4g}'}</small>"
        items.append((who, f"{sign}{escape(text)}{beside}"))
    named = f"<b>{escape(part)}</b>" if part else ""
    pairs = "".join(f"<div><dt>{who}</dt><dd>{given}</dd></div>" for who, given in items)
    return f'{named}<dl class="answers">{pairs}</dl>'


def _right(right: bool) -> str:  # noqa: FBT001 - its only argument
    # A sign beside the colour, which not all can see and no print has.
    return '<span class="yes" title="right">✓</span> ' if right else '<span class="no" title="wrong">✗</span> '


def _percent(share: float) -> str:
    # 100.0 % would be wrong for 0.9999.
    return f"{min(100 * share, 99.9):.1f} %" if share < 1 else "100 %"
