"""What the exporter's file still needs: the names of its inputs and outputs, and nothing of the machine that made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def placeholders(kind: str, names: Sequence[str]) -> list[str]:
    """Names for the exporter that no value in a model has: it gives what they name to two values where an inner one has it."""
    return [f"kdspec_{kind}_{number}" for number in range(len(names))]


def finish(file: Path, names: Mapping[str, str]) -> None:
    """Rename the inputs and outputs, and remove what the exporter notes of each operator: lines and paths of Python files.

    Args:
        file: the ONNX file; weights beside it stay as they are.
        names: the placeholders, with the names that they get. An inner value of such a name gets another one.
    """
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    graphs = [*_graphs(model.graph)]
    taken = {name for graph in graphs for name in _values(graph)}
    renamed = dict(names)
    for name in names.values():
        if name in taken:
            renamed[name] = next(new for n in range(len(taken) + 1) if (new := f"{name}_inner_{n}") not in taken)
    for graph in graphs:
        for node in graph.node:
            for part in (node.input, node.output):
                part[:] = [renamed.get(value, value) for value in part]
        for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            each.name = renamed.get(each.name, each.name)
        for each in (*graph.node, *graph.input, *graph.output, *graph.value_info, graph):
            each.ClearField("metadata_props")
            each.ClearField("doc_string")
    onnx.save(model, str(file))


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and the bodies of its conditions and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from _graphs(inner)


def _values(graph: Any) -> Iterator[str]:
    yield from (each.name for each in (*graph.input, *graph.output, *graph.initializer))
    yield from (value for node in graph.node for value in node.output)
