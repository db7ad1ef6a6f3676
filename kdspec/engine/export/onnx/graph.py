"""The graph of a model for one task: which tensors go in, which come out, and its ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from kdspec.api.paths.field_path import FieldPath, parse
from kdspec.api.plan.plan import Feature
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.export.onnx.finish import finish, placeholders
from kdspec.engine.export.onnx.recurrent import with_onnx_layers
from kdspec.engine.forward.model_runner import ModelRunner, frozen

ANSWERS = "answers"
"""The output of a model that answers texts, or pairs of texts, of which rows are made."""
_LARGEST = 1_900_000_000
"""Bytes of weights in one file; a protobuf of 2 GiB cannot be read."""


class Graph(nn.Module):
    """A model with tensors in order as inputs and outputs.

    Args:
        module: the model.
        flags: keyword arguments that make it return what is read.
        inputs: the names of its inputs.
        outputs: the paths of its outputs, by name.
    """

    def __init__(
        self, module: nn.Module, flags: Mapping[str, bool], inputs: Sequence[str], outputs: Mapping[str, FieldPath]
    ) -> None:
        super().__init__()
        self.module, self.flags = module, dict(flags)
        self.inputs, self.outputs = tuple(inputs), dict(outputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs for inputs, both in their order."""
        output = self.module(**dict(zip(self.inputs, tensors, strict=True)), **self.flags)
        return tuple(path.evaluate(output=output) for path in self.outputs.values())


def outputs_of(forward: ModelRunner, *, in_pieces: bool) -> dict[str, FieldPath]:
    """The outputs of a model that its task reads, by name.

    Args:
        forward: the model with the features that are read.
        in_pieces: whether rows are made of answers for their texts.

    Raises:
        FindingError: KD531 if a feature is read inside the model, or nothing is read.
    """
    if in_pieces:
        return {ANSWERS: parse(f"output.{ANSWERS}")}
    found: dict[str, FieldPath] = {}
    for name, feature in forward.features.items():
        for path in feature.paths:
            if path.module is not None:
                message = (
                    f"`{name}` of `{forward.name}` is read inside of it, at `{path}`, where an ONNX file has no output"
                )
                help_ = "give the feature a path that begins with `output` in its adaptor"
                raise FindingError(Finding("KD531", message, ("models", forward.name), key=True, help=help_))
            if path.root == "output" and path not in found.values():
                own = path.attributes[-1] if path.attributes else name
                found[own if own not in found else f"{name}_{len(found)}"] = path
    if not found:
        message = f"the task reads no output of `{forward.name}`, so an ONNX file of it would have none"
        raise FindingError(Finding("KD531", message, ("models", forward.name), key=True))
    return found


def reading(features: Mapping[str, Feature], outputs: Mapping[str, FieldPath]) -> dict[str, Feature]:
    """The features, read from a mapping of these outputs by name."""
    names = {path: parse(f"output[{name!r}]") for name, path in outputs.items()}
    return {
        key: replace(feature, paths=tuple(names.get(path, path) for path in feature.paths))
        for key, feature in features.items()
    }


def write(graph: Graph, example: Mapping[str, Tensor], dynamic: Mapping[str, Sequence[int]], file: Path) -> None:
    """Write the ONNX file.

    Args:
        graph: the model, on the CPU.
        example: inputs by name, of two rows or more.
        dynamic: the axes of each input whose lengths vary: 0, the rows, and 1, the tokens.
        file: the file to write; weights of more than 1.9 GB are beside it, in `<file>.data`.

    Raises:
        FindingError: KD531 if the exporter cannot do it.
    """
    made = Graph(with_onnx_layers(graph.module), graph.flags, graph.inputs, graph.outputs).eval()
    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("length")}
    size = sum(tensor.numel() * tensor.element_size() for tensor in made.state_dict().values())
    given, found = placeholders("in", graph.inputs), placeholders("out", tuple(graph.outputs))
    with frozen(made), quiet():
        try:
            torch.onnx.export(
                made,
                tuple(example[name] for name in graph.inputs),
                str(file),
                input_names=given,
                output_names=found,
                dynamic_shapes=(tuple({axis: axes[axis] for axis in dynamic[name]} for name in graph.inputs),),
                dynamo=True,
                external_data=size > _LARGEST,
                verbose=False,
            )
            finish(file, dict(zip((*given, *found), (*graph.inputs, *graph.outputs), strict=True)))
        # Whatever the model's code does wrong under tracing comes out here, in the exporter's own errors or others.
        except Exception as error:
            raise FindingError(_refused(error)) from error


def _refused(error: Exception) -> Finding:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    message = f"torch cannot export the model to ONNX: {type(cause).__name__}: {excerpt(str(cause), 200)}"
    help_ = (
        "`--traceback` shows where; a model whose steps depend on values, or that has its own kernels, has no ONNX file"
    )
    return Finding("KD531", message, help=help_)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notes of exporter and quantiser on standard error, which are about their own steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
