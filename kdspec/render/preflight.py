"""Renders preflight: one line for a log, and rows of a table for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdspec.events import Preflight
from kdspec.render.clean import clean

_SAME = 1e-5
"""The difference up to which answers are called the same."""


def preflight_line(event: Preflight) -> str:
    """`distil: 280 rows, 4 classes, 2.1 % cut at 128; teacher accuracy 0.97 (majority 0.31) on 70 of 90 ...; 1.2 s`."""
    parts = [part for name, task in event.tasks.items() for part in _task(name, task, several=len(event.tasks) > 1)]
    end = "cached" if event.cached else f"{event.seconds:.1f} s"
    return f"{clean(event.stage)}: {'; '.join([*parts, end])}"


def preflight_rows(event: Preflight) -> Iterator[tuple[str, str, str, str]]:
    """For each task and model: its name, its role in words, the answers, and the difference of a row alone."""
    for name, task in event.tasks.items():
        yield clean(name), _of_rows(task), "", ""
        for model, found in task["models"].items():
            alone = found["alone"]
            difference = "" if alone is None else f"{alone['difference']:.2g}"
            yield clean(model), "; ".join(map(clean, found["left_out"])), _answers(found["answers"], task), difference


def _task(name: str, task: Mapping[str, Any], *, several: bool) -> Iterator[str]:
    yield f"{clean(name)} {_of_rows(task)}" if several else _of_rows(task)
    for model, found in task["models"].items():
        if text := ", ".join(filter(None, (_answers(found["answers"], task), _scores(found["scores"])))):
            yield f"{clean(model)} {text}"
    alone = [found["alone"]["difference"] for found in task["models"].values() if found["alone"] is not None]
    if alone:
        largest = max(alone)
        yield "rows alone as in a batch" if largest <= _SAME else f"rows alone and in a batch differ by {largest:.1g}"


def _of_rows(task: Mapping[str, Any]) -> str:
    """`280 rows and 1,000 unlabelled, 4 classes, 2.1 % cut at 128`."""
    if (train := task["splits"].get("train")) is None:
        return ""
    without = task["splits"].get("unlabelled")
    parts = [f"{train['rows']:,} rows" + ("" if without is None else f" and {without['rows']:,} unlabelled")]
    if train["labelled"] is not None and train["labelled"] < train["encoded"]:
        parts.append(f"{train['labelled']:,} labelled")
    if train["labels"]:
        parts.append(f"{len(train['labels'])} classes")
    cuts = [read for read in train["reads"] if read["cut"] is not None]
    if cuts:
        most = max(cuts, key=lambda read: read["cut"])
        share = 100 * most["cut"] / max(1, train["encoded"])
        parts.append(f"{share:.1f} % cut at {most['longest']}" if most["cut"] else "none cut")
    parts += [
        f"{facts['in_train']:,} {split} row{' stands' if facts['in_train'] == 1 else 's stand'} in train"
        for split, facts in task["splits"].items()
        if facts["in_train"]
    ]
    return ", ".join(parts)


def _scores(found: Mapping[str, Any] | None) -> str:
    """`scores over 3.1 in a row, entropy 1.2 of 2.1 nats`."""
    if found is None or not found["rows"]:
        return ""
    spread = f"scores over {found['spread']:.2g} in a row"
    if found["temperature"] is None:
        return spread
    return f"{spread}, entropy {found['entropy']:.1f} of {found['largest_entropy']:.1f} nats"


def _answers(found: Mapping[str, Any] | None, task: Mapping[str, Any]) -> str:
    """`accuracy 0.97 (majority 0.31) on 300 of 2,000 validation rows`, or the metric that selects the best student."""
    if found is None:
        return ""
    primary = found["primary"]
    metric = f"{primary} {found['metrics'][primary]:.3g}" if primary in found["metrics"] else ""
    asked = f" on {_of_labelled(found, task)} {found['split']} rows"
    if not found["answers"]:
        return metric and metric + asked
    accuracy = "" if primary == "accuracy" and metric else f"accuracy {found['right'] / found['answers']:.3g}"
    known = ", ".join(part for part in (metric, accuracy) if part)
    return f"{known} (majority {found['most_frequent'] / found['answers']:.2g}){asked}"


def _of_labelled(found: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    """How many rows a teacher was asked, of those of the split that have a label."""
    facts = task["splits"].get(found["split"])
    labelled = None if facts is None else facts["encoded"] if facts["labelled"] is None else facts["labelled"]
    if labelled is None:
        return f"{found['rows']:,}"
    return f"all {labelled:,}" if found["rows"] == labelled else f"{found['rows']:,} of {labelled:,}"
