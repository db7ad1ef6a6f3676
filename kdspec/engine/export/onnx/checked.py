"""What an ONNX file gives for rows of the run, beside the model that it was made from: outputs, answers, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdspec.api.plan.plan import Feature
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.data.answers.beside_teacher import AGREEMENT
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.export.onnx.graph import Graph
from kdspec.engine.export.onnx.onnx_model import OnnxModel
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.teacher_cache.answered.answered import Answered

ALLOWED = 1e-3
"""Largest difference of an output in float32, relative to its largest value: rounding is a thousandth of that, and an
operator that computes something else a hundred times more."""
BATCH = 16
_COMPARED = 256
"""Rows whose outputs are compared one by one."""


@dataclass(frozen=True)
class OutputDifference:
    """The largest difference of an output from the model's."""

    absolute: float
    relative: float
    """Divided by the largest absolute value of the model's output. A NaN on one side is infinite."""


@dataclass(frozen=True)
class EvaluatedRows:
    """The answers for the rows of a split."""

    metrics: Mapping[str, float]
    states: Sequence[State]


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """The rows on which a model and its ONNX files are compared."""

    findings: ModelFindings
    loader: Loader
    answered: Answered
    """Rows, or the texts of which they are made."""
    evaluator: Evaluator
    rows: Sequence[int]
    """Those that the metrics are of: all of a split for evaluation, or none of `train`."""

    def answers(self, forward: ModelRunner) -> EvaluatedRows:
        """The metrics of a model, and what its evaluator keeps of its answers."""
        if not self.rows:
            return EvaluatedRows({}, ())
        task = self.loader.task
        outcome = evaluate(forward, task, self.loader, BATCH, self.rows, evaluator=self.evaluator)
        return EvaluatedRows(outcome.metrics, outcome.states)

    def of_file(self, model: OnnxModel, features: Mapping[str, Feature]) -> EvaluatedRows:
        """The same of an ONNX file; `features` are as its outputs have them."""
        return self.answers(ModelRunner(self.findings, model, features, chooses=False))

    def agreement(self, found: EvaluatedRows, expected: EvaluatedRows) -> float | None:
        """The share of answers that are those of the model; without labels as a student is measured beside its teacher."""
        if not expected.states:
            return None
        share = self.evaluator.agreement(found.states, expected.states)
        return self.evaluator.beside(found.states, expected.states).get(AGREEMENT) if share is None else share

    def batches(self, forward: ModelRunner) -> Iterator[Mapping[str, Tensor]]:
        """Inputs of the model: the shortest row alone, the longest alone, and some of every length in batches."""
        order = np.argsort(self.answered.lengths, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(order) - 1, _COMPARED).astype(int))].tolist()
        parts = [chosen[:1], chosen[-1:], *(chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH))]
        for part in parts:
            yield forward.inputs(self.answered.batch(part))


def differences(graph: Graph, model: OnnxModel, batches: Iterator[Mapping[str, Tensor]]) -> dict[str, OutputDifference]:
    """The largest difference of each output, at non-padding tokens.

    Args:
        graph: the model in torch.
        model: an ONNX file of it.
        batches: inputs by name.
    """
    largest = dict.fromkeys(graph.outputs, 0.0)
    scale = dict.fromkeys(graph.outputs, 0.0)
    with frozen(graph):
        for batch in batches:
            mine = graph(*(batch[name] for name in graph.inputs))
            theirs = model.run(batch)
            for name, expected in zip(graph.outputs, mine, strict=True):
                one, two = (_tokens(each.double(), batch) for each in (expected, theirs[name]))
                apart = torch.where(one == two, 0.0, (one - two).abs()).nan_to_num(nan=torch.inf)
                largest[name] = max(largest[name], float(apart.max()) if apart.numel() else 0.0)
                finite = one[one.isfinite()].abs()
                scale[name] = max(scale[name], float(finite.max()) if finite.numel() else 0.0)
    tiny = torch.finfo(torch.float32).tiny
    return {name: OutputDifference(value, value / max(scale[name], tiny)) for name, value in largest.items()}


def refuse_difference(found: Mapping[str, OutputDifference], model: str) -> None:
    """Raise KD532 for an ONNX file in float32 that computes something else than the model."""
    for name, each in found.items():
        if not each.relative <= ALLOWED:
            message = (
                f"the ONNX file of `{model}` computes something else: `{name}` differs from the model's by up to "
                f"{each.absolute:.3g}, {each.relative:.2g} of its size, and rounding explains {ALLOWED:g}"
            )
            help_ = (
                "no file was written; a model that does something else when it is traced cannot be exported as it is"
            )
            raise FindingError(Finding("KD532", message, ("models", model), key=True, help=help_))


def _tokens(output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """An output without padding, if it has an entry for each token."""
    mask = batch.get("attention_mask")
    return output[mask != 0] if mask is not None and output.shape[:2] == mask.shape else output
