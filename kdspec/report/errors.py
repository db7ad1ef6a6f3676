"""Where models are wrong, for a report: scores by class, confusions, and predicted beside true numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from kdspec.report.chart import HEIGHT, WIDTH, ticks, widened

Row = Mapping[str, Any]
"""A row as `table.json` has it."""
_MODELS = 40
"""Models on a page."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 12, 30
_LONGEST = 40
"""Characters of a class beside a matrix."""
_STEPS = 8
"""Shades of the cells of a matrix."""


def error_sections(table: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """For each task the titles and the HTML of its sections: the confusions, the scores by class, the scatter of numbers."""
    found = [row for row in table if row.get("errors")][:_MODELS]
    tasks = list(dict.fromkeys(row["task"] for row in found))
    for task in tasks:
        rows = sorted((row for row in found if row["task"] == task), key=lambda row: row["role"] == "teacher")
        of_task = f": {task}" if len(tasks) > 1 else ""
        for title, made in (
            ("Confusion matrix", _confusion),
            ("Scores by class", _classes),
            ("Predicted and true", _points),
        ):
            html = _by_model(rows, made)
            if html:
                title_ = (
                    "Most confused classes"
                    if made is _confusion and not any(r["errors"]["matrix"] for r in rows)
                    else title
                )
                yield f"{title_}{of_task}", html


def _by_model(rows: Sequence[Row], made: Any) -> str:
    """The first model in full, the others closed until they are asked for."""
    drawn = [(row, html) for row in rows if (html := made(row))]
    if not drawn:
        return ""
    (first, html), *others = drawn
    heading = f"<h3>{_named(first)}</h3>" if others else ""
    rest = (f"<details><summary>{_named(row)}</summary>{inside}</details>" for row, inside in others)
    return f"{heading}{html}{''.join(rest)}"


def _named(row: Row) -> str:
    role = "" if row["role"] == row["model"] else f" <small>{escape(row['role'])}</small>"
    return f"{escape(row['model'])}{role}"


def _confusion(row: Row) -> str:
    """The matrix of a model, or its most confused pairs."""
    errors = row["errors"]
    against = "the teacher's class" if errors["against"] == "teacher" else "the label"
    if errors["matrix"]:
        note = (
            f"Of the {row['split']} {errors['unit']}. A row is {against}, a column what {row['model']} predicts. "
            "The stronger the colour of a cell, the larger its share of the row; the errors are off the diagonal."
        )
        return f'{_matrix(errors["names"], errors["matrix"])}<p class="note">{escape(note)}</p>'
    if not errors["confused"]:
        return ""
    head = f'<tr><th>{escape(against)}</th><th>predicted</th><th class="number">{escape(errors["unit"])}</th></tr>'
    body = "".join(
        f'<tr><td>{escape(due)}</td><td>{escape(given)}</td><td class="number">{count:,}</td></tr>'
        for due, given, count in errors["confused"]
    )
    note = (
        f"The most frequent errors on the {row['split']} {errors['unit']}; a matrix of all classes would be too large."
    )
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div><p class="note">{escape(note)}</p>'


def _matrix(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    columns = "".join(f'<th scope="col" title="{escape(name)}"><span>{_short(name)}</span></th>' for name in names)
    body = []
    for place, (name, counts) in enumerate(zip(names, matrix, strict=False)):
        total = sum(counts)
        cells = "".join(
            _cell(count, total, name, names[column] if column < len(names) else "", right=place == column)
            for column, count in enumerate(counts)
        )
        body.append(
            f'<tr><th scope="row" title="{escape(name)}"><span class="name">{_short(name)}</span></th>{cells}<td class="number">{_count(total)}</td></tr>'
        )
    # Names across would make columns wider than numbers.
    upright = " upright" if len(names) > 4 or max(map(len, names), default=0) > 12 else ""
    return (
        f'<div class="wide"><table class="matrix{upright}"><thead><tr><td></td>{columns}'
        f'<th scope="col" class="number">all</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _short(name: str) -> str:
    return escape(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…")


def _count(count: int) -> str:
    """A number for a narrow column: `12k` for 12,345."""
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"


def _cell(count: int, total: int, due: str, given: str, *, right: bool) -> str:
    shade = -(-count * _STEPS // total) if total and count > 0 else 0
    share = f"{100 * count / total:.1f} % of {due}" if total else due
    title = f"{share} predicted as {given}: {count:,}"
    kind = "right" if right else "wrong"
    return f'<td class="{kind} s{min(shade, _STEPS)}" title="{escape(title)}">{_count(count)}</td>'


def _classes(row: Row) -> str:
    """Precision, recall and F1 of each class."""
    errors = row["errors"]
    if not errors["classes"]:
        return ""
    taught = any(teacher is not None for *_, teacher in errors["classes"])
    names = [
        "entity type" if errors["entities"] else "class", "precision", "recall", "F1", *(["teacher F1"] if taught else []),
        "entities" if errors["entities"] else "labelled",
    ]  # fmt: skip
    head = "".join(f"<th>{name}</th>" if n == 0 else f'<th class="number">{name}</th>' for n, name in enumerate(names))
    body = []
    for name, precision, recall, f1, support, teacher in errors["classes"]:
        scores = [_score(precision), _score(recall), _score(f1), *([_score(teacher)] if taught else [])]
        # An empty bar too, so that the rows are of one height.
        bar = f'<i class="bar-of" style="--share:{100 * (f1 or 0):.0f}%"></i>'
        cells = "".join(
            f'<td class="number">{score}{bar if n == 2 else ""}</td>'
            for n, score in enumerate((*scores, f"{support:,}"))
        )
        body.append(f'<tr><td><span class="name">{escape(name)}</span></td>{cells}</tr>')
    note = f"Of the {row['split']} rows."
    if errors["entities"]:
        note += " An entity is right if its type, its first and its last word are."
    if errors["unlisted"]:
        note += f" These are the classes of lowest F1; {errors['unlisted']:,} more are not listed."
    if any(score is None for each in errors["classes"] for score in each[1:4]):
        note += " -: not defined, as the precision of a class that is never predicted."
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="wide">{table}</div><p class="note">{escape(note)}</p>'


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _points(row: Row) -> str:
    """A scatter for each column of numbers."""
    drawn = "".join(_scatter(name, points, row["model"]) for name, points in row["errors"]["points"] if points)
    note = f"Of the {row['split']} rows; on the dashed line both are equal."
    return f'<div class="charts">{drawn}</div><p class="note">{escape(note)}</p>' if drawn else ""


def _scatter(name: str, points: Sequence[Sequence[float]], model: str) -> str:
    axes = [ticks(*widened(values)) for values in zip(*points, strict=True)]
    (left, right), (low, high) = ((axis[0], axis[-1]) for axis in axes)

    def x(value: float) -> float:
        return _LEFT + (value - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    grid = "".join(f"M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}" for tick in axes[1])
    beside = "".join(f'<text x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}">{tick:.4g}</text>' for tick in axes[1])
    below = "".join(f'<text x="{x(tick):.1f}" y="{HEIGHT - _BOTTOM + 15}">{tick:.4g}</text>' for tick in axes[0])
    dots = "".join(f"M{x(due):.1f},{y(given):.1f}h0" for due, given in points)
    first, last = max(left, low), min(right, high)
    equal = (
        f'<path class="ideal" d="M{x(first):.1f} {y(first):.1f}L{x(last):.1f} {y(last):.1f}"/>' if first < last else ""
    )
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{name} by {model}: predicted and true")}">'
        f'<path class="grid" d="{grid}"/><g class="axis" text-anchor="end">{beside}'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}">true</text></g><g class="axis" text-anchor="middle">{below}</g>'
        f'{equal}<path class="dots" d="{dots}"/></svg>'
    )
    caption = f"<b>{escape(name)}</b><small>predicted by {escape(model)} (up), by the true number</small>"
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"
