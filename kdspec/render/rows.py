"""Renders what is known of the rows of a plan, and the first row as the models read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from kdspec.render.clean import clean

_CLASSES = 12


def rows_page(tasks: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """The rows of each task, from the data of `kdspec.engine.preflight.facts`."""
    parts: list[RenderableType] = []
    for name, task in tasks.items():
        parts += ["", Text("rows of ", "bold").append(clean(name), "bold cyan")]
        parts += [Text(f"  {split}  ", "dim").append(_split(split, facts)) for split, facts in task["splits"].items()]
        parts += [Text("  lengths  ", "dim").append(line) for line in _lengths(task)]
        parts += [Text("  not known  ", "dim").append(clean(why)) for why in task["left_out"]]
        for shown in task["shown"]:
            parts += [Text(f"  first row of train, as {_names(shown['models'])} reads it", "dim"), *_shown(shown)]
    return Group(*parts)


def _split(split: str, facts: Mapping[str, Any]) -> str:
    parts = [f"{facts['rows']:,} rows"]
    if facts["encoded"] != facts["rows"]:
        parts.append(f"{facts['encoded']:,} when long ones are split")
    if facts["labelled"] is not None and split != "unlabelled":
        parts.append("all labelled" if facts["labelled"] == facts["encoded"] else f"{facts['labelled']:,} labelled")
    if facts["in_train"]:
        parts.append(f"{facts['in_train']:,} stand in train")
    line = ", ".join(parts)
    return f"{line}: {_counts(facts['labels'])}" if facts["labels"] else line


def _counts(labels: Mapping[str, int]) -> str:
    listed = [f"{clean(name)} {count:,}" for name, count in labels.items()]
    more = [f"and {len(listed) - _CLASSES} more"] if len(listed) > _CLASSES else []
    return ", ".join(listed[:_CLASSES] + more)


def _lengths(task: Mapping[str, Any]) -> Iterator[str]:
    for read in task["splits"]["train"]["reads"]:
        if read["longest"]:
            cut = "" if read["cut"] is None else f", {read['cut']:,} cut there"
            yield f"{_names(read['models'])}: {read['mean']:g} tokens of a train row on average, at most {read['longest']}{cut}"


def _names(models: list[str]) -> str:
    return ", ".join(map(clean, models))


def _shown(row: Mapping[str, Any]) -> Iterator[Text]:
    tokens, labels = row["tokens"], row["labels"]
    each = {name: values for name, values in labels.items() if len(values) == len(tokens) > 1}
    if not tokens:
        for name, kind in row["inputs"].items():
            yield Text(f"    {clean(name)}  ").append(clean(kind), "dim")
    elif each:
        width = max(len(clean(token)) for token in tokens)
        for place, token in enumerate(tokens):
            marks = "  ".join(clean(values[place]) for values in each.values())
            yield Text(f"    {clean(token):<{width}}  {marks}".rstrip())
    else:
        yield Text(f"    {' '.join(map(clean, tokens))}")
    for name, values in labels.items():
        if name not in each:
            yield Text(f"    {clean(name)}  ", "dim").append(", ".join(map(clean, values)) or "none")
