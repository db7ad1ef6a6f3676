"""Renders the results of a rehearsal: shapes, parameter counts, cost and memory of a stage."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from kdspec.render.clean import clean

_FEW = 3
STUDENT = "student"
"""How a stage calls what it trains, whichever model it is."""


def details(stage: Mapping[str, Any], models: Mapping[str, Any], trained: str = STUDENT) -> Iterator[tuple[str, Text]]:
    """The headings and lines that describe a stage.

    Args:
        stage: the stage's part of a rehearsal as data.
        models: the models' part.
        trained: the model that the stage trains.
    """
    for task, part in stage.get("tasks", {}).items():
        yield from _of_task(task, part, models, trained)
    for model, features in stage["features"].items():
        if text := ", ".join(_feature(name, shapes) for name, shapes in features.items() if shapes):
            yield f"reads of {clean(model)}", Text(text)
    for model, module in stage.get("ends", {}).items():
        yield (
            f"end of {clean(model)}",
            Text(f"{clean(module)}: the forward pass stops here, since nothing after it is read"),
        )
    if stage["groups"]:
        names = {STUDENT: trained}
        learnt = ", ".join(f"{clean(names.get(name, name))} {number(n)}" for name, n in stage["groups"].items())
        frozen = [f"{clean(name)} {number(models[name]['parameters'])}" for name in stage["cache"] if name in models]
        parts = [f"trained: {learnt}", *_decay(stage), *([f"frozen: {', '.join(frozen)}"] if frozen else [])]
        yield "parameters", Text("; ".join(parts))
    if stage["unused"]:
        few = ", ".join(map(clean, stage["unused"][:_FEW]))
        more = f" and {len(stage['unused']) - _FEW} more" if len(stage["unused"]) > _FEW else ""
        yield "not trained", Text(f"{few}{more}: they receive no gradient", "yellow")
    if stage["row_tokens"]:
        yield "rows", Text(_lengths(stage))
    yield from _time(stage, trained)
    if stage["memory"]:
        yield "memory", Text(_memory(stage))
    yield from _caches(stage)


def _time(stage: Mapping[str, Any], trained: str) -> Iterator[tuple[str, Text]]:
    """The cost, and what would make it less."""
    if stage["flops"]:
        yield "cost", Text(_cost(stage["flops"], trained, _row(stage)))
    if hints := stage.get("hints"):
        yield "speed", Text("\n".join(map(clean, hints)), "cyan")


def _caches(stage: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    if any(stage["cache"].values()):
        caching = stage.get("caching", {})
        lines = [
            f"{clean(name)} {size(count)} {_row(stage)}" + (f", {clean(caching[name])}" if name in caching else "")
            for name, count in stage["cache"].items()
        ]
        yield "teacher cache", Text("\n".join(lines))


def _of_task(task: str, part: Mapping[str, Any], models: Mapping[str, Any], trained: str) -> Iterator[tuple[str, Text]]:
    """The lines of one task alone; the other lines are those of the stage."""
    for name, text in details(part, models, trained):
        if name.startswith(("reads of", "end of")) or name in ("rows", "cost"):
            yield f"{clean(task)} {name}", text


def model(found: Mapping[str, Any]) -> Text:
    """A model's size, and where its parameters come from."""
    text = Text(f"{number(found['parameters'])} parameters")
    made = found["initialization"]
    if made is None:
        return text
    copied = made["copied_parameters"]
    text.append(f", {number(copied)} copied from {clean(made['source'])} ({_tensors(made['copied'])})")
    if made["new"]:
        few = ", ".join(map(clean, made["new"][:_FEW]))
        text.append(f", {len(made['new'])} new: {few}{', …' if len(made['new']) > _FEW else ''}")
    return text


def number(count: float) -> str:
    """`22.7 M`: three digits and a power of a thousand."""
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= power:
            return f"{count / power:.{_digits(count / power)}f} {letter}"
    return f"{count:g}" if float(count).is_integer() else f"{count:.3g}"


def size(count: float) -> str:
    """`1.50 MiB`: three digits and a power of 1024."""
    for power, letters in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2**power:
            return f"{count / 2**power:.{_digits(count / 2**power)}f} {letters}"
    return f"{count:g} B"


def _digits(value: float) -> int:
    return 2 if value < 10 else 1 if value < 100 else 0


def _tensors(names: Sequence[Any]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _feature(name: str, shapes: Sequence[Mapping[str, Any]]) -> str:
    layers = [shape["layer"] for shape in shapes if "layer" in shape]
    text = f"{clean(name)}[{', '.join(map(str, layers))}]" if layers else clean(name)
    different = dict.fromkeys(" × ".join(map(str, shape["shape"])) for shape in shapes)
    return f"{text} {' and '.join(different)}"


def _decay(stage: Mapping[str, Any]) -> Iterator[str]:
    """On how many of the trained parameters there is weight decay."""
    if stage["decayed"]:
        decayed, trained = sum(stage["decayed"].values()), sum(stage["groups"].values())
        rest = f"all but {number(trained - decayed)}" if decayed < trained else "all"
        yield f"weight decay on {rest}" if decayed else "no weight decay"


def _row(stage: Mapping[str, Any]) -> str:
    """The row that figures are of, as a phrase."""
    return f"a row of {stage['row_tokens']} tokens" if stage["row_tokens"] else "a row"


def _lengths(stage: Mapping[str, Any]) -> str:
    """How long rows are, or are taken to be."""
    lengths = stage["lengths"]
    if lengths is None:
        return f"not read: each of {stage['row_tokens']} tokens"
    sample = f"{lengths['rows']:,} rows of `train`"
    return f"as in {sample}: median {lengths['median']}, longest {lengths['longest']} tokens"


def _cost(flops: Mapping[str, Any], trained: str, row: str) -> str:
    parts = {**flops["teachers"], trained: flops["forward"], "losses": flops["losses"], "backward": flops["backward"]}
    text = ", ".join(f"{clean(name)} {number(count)}" for name, count in parts.items() if count)
    return f"{number(flops['total'])}FLOP {row}: {text}"


def _memory(stage: Mapping[str, Any]) -> str:
    memory = stage["memory"]
    tokens = stage["inputs"].get("input_ids", {}).get("shape", [])
    rows = f"{stage['rows']} rows" + (f" of {tokens[1]} tokens" if len(tokens) == 2 else "")
    parts = ("models", "gradients", "optimizer", "activations")
    text = ", ".join(f"{name} {size(memory[name])}" for name in parts if memory[name])
    return f"about {size(memory['peak'])} for {rows}: {text}"
