"""Exports a model of a finished run to ONNX, checked on rows of the run before it has its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdspec.api.plan.plan import Plan
from kdspec.api.working.pieces import PutsTogether
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import BuiltTask, Reader
from kdspec.data.prompted.prompt_tokenizer import PromptTokenizer
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.best_model import evaluated_features
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.evaluation.splits import table_split
from kdspec.engine.export import model_folder
from kdspec.engine.export.onnx import latency, tokenizer_file
from kdspec.engine.export.onnx.checked import CheckedRows, differences, refuse_difference
from kdspec.engine.export.onnx.graph import Graph, outputs_of, reading, write
from kdspec.engine.export.onnx.onnx_model import OnnxModel
from kdspec.engine.export.onnx.quantize import quantize
from kdspec.engine.export.onnx.result import Exported, ExportedForm, figures
from kdspec.engine.export.onnx.script import ATTRIBUTES, script
from kdspec.engine.forward.memory import size
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.trained_heads import refuse_untrained
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.teacher_cache.answered.answered import AnsweredPieces, AnsweredRows
from kdspec.planning.feature_reader import locate

FILE, INT8 = "model.onnx", "model-int8.onnx"
CONFIGURATION, CHECKS, SCRIPT = "config.json", "check.json", "use.py"
_FORMAT = 1
_VERSIONS = ("onnx", "onnxruntime", "onnxscript", "tokenizers", "numpy")


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """Writes one model of a finished run, with its head for one task."""

    plan: Plan
    run: RunFolder
    model: str
    task: str
    int8: bool
    threads: Sequence[int]
    """The numbers of threads for which the latency is measured."""
    tell: Callable[[str], None]
    """Called before each step with what is done."""

    def write(self, folder: Path) -> Exported:
        """Write the folder; it is complete or absent.

        Raises:
            FindingError: KD5xx if data or model cannot be loaded, KD531 if it cannot be exported, KD532 if the file computes
                something else than the model, KD508 if it cannot be written.
        """
        found: list[Exported] = []
        self.run.replace(folder, lambda fresh: found.append(self._fill(fresh, folder)))
        return found[0]

    def _fill(self, fresh: Path, folder: Path) -> Exported:
        self.tell("loading model and data")
        tasks = built_tasks(self.plan)
        task, models = tasks[self.task], self._models(tasks)
        reader = models.reader(self.model)
        self._refuse_prompts(reader)
        # A model that a spec has in 16 bits is exported and compared in 32, which every runtime has.
        module = models.view(self.model, self.task).float()
        split = table_split(task)
        rows, forward = self._checked(task, split, module, reader)
        outputs = outputs_of(forward, in_pieces=isinstance(rows.answered, AnsweredPieces))
        example = self._example(rows, forward)
        graph = Graph(module, forward.flags, tuple(example), outputs)
        self.tell("writing the ONNX file")
        dynamic = {name: _dynamic(tensor, tokens=reader.tokenizer is not None) for name, tensor in example.items()}
        write(graph, example, dynamic, fresh / FILE)
        use = self._use(task, reader, module, example)
        if use is not None:
            tokenizer_file.write(reader.tokenizer, use, fresh / "tokenizer.json")
            tokenizer_file.refuse_other_tokens(
                reader.tokenizer, use, fresh / "tokenizer.json", task.texts(rows.loader.split)
            )
        self.tell("checking it on rows of the run")
        files = {"onnx": FILE, **({"int8": INT8} if self.int8 else {})}
        forms = self._forms(fresh, files, graph, forward, rows)
        text = script(use, self.model)
        described = self._described(task, use, graph, example, [*files.values()])
        exported = Exported(
            folder=folder, model=self.model, task=self.task, split=rows.loader.split, rows=len(rows.rows),
            agrees_on=rows.evaluator.agrees_on, primary=rows.evaluator.primary.name, forms=forms, script=text,
        )  # fmt: skip
        (fresh / SCRIPT).write_text(text, encoding="utf-8")
        _write_json(fresh / CONFIGURATION, described)
        _write_json(fresh / CHECKS, figures(exported))
        return exported

    def _models(self, tasks: Mapping[str, BuiltTask]) -> Models:
        """The models of the run, with the one that is exported on the CPU."""
        heads = {name: task.head for name, task in tasks.items()}
        students = {stage.name: stage.student for stage in self.plan.stages}
        ends = self.run.finished(list(students))
        trained = {students[name]: self.run.path / event.folder for name, event in ends.items()}
        models = Models(self.plan, heads, trained)
        refuse_untrained(models, self.model, self.task)
        models.prepared(self.model, torch.device("cpu"), trains=False, eager=False)
        return models

    def _refuse_prompts(self, reader: Reader) -> None:
        """Raise KD531 for a model that answers prompts: what it reads of a row is made here, and no tokenizer file has it."""
        if isinstance(reader.tokenizer, PromptTokenizer):
            message = f"`{self.model}` answers a prompt for each row, which an ONNX file with a tokenizer cannot do"
            help_ = "export the student that it teaches"
            raise FindingError(Finding("KD531", message, ("models", self.model), key=True, help=help_))

    def _checked(
        self, task: BuiltTask, split: str | None, module: nn.Module, reader: Reader
    ) -> tuple[CheckedRows, ModelRunner]:
        taught = None if split is None or task.labelled(split) else task.beside_teacher(split)
        evaluator = taught or task.evaluator(split or "validation")
        features = evaluated_features(self.plan, self.model, self.task, evaluator)
        if not features:
            names = sorted({*evaluator.reads, *evaluator.optional})
            features = locate(self.plan.spec, self.model, self.task, names)
        features.pop("losses", None)
        findings = ModelFindings(self.plan.spec, self.model, self.task)
        forward = ModelRunner(findings, module, features, chooses=reader.tokenizer is not None)
        loader = Loader(task, split or "train", {self.model: reader})
        pieces = loader.pieces(self.model)
        if pieces is not None and not isinstance(module, PutsTogether):
            message = (
                f"`{self.model}` takes several texts of a row at once, and does not make rows of answers for texts"
            )
            raise FindingError(Finding("KD531", message, ("models", self.model), key=True))
        answered = AnsweredRows(loader, self.model) if pieces is None else AnsweredPieces(loader, pieces)
        rows = CheckedRows(
            findings=findings,
            loader=loader,
            answered=answered,
            evaluator=evaluator,
            rows=range(loader.rows if split else 0),
        )
        return rows, forward

    def _example(self, rows: CheckedRows, forward: ModelRunner) -> dict[str, Tensor]:
        """Inputs of two rows of medium length, for the exporter to run the model on."""
        order = np.argsort(rows.answered.lengths, kind="stable")
        chosen = np.resize(order[len(order) // 2 :][:2], 2).tolist()
        return forward.inputs(rows.answered.batch(chosen))

    def _forms(
        self, fresh: Path, files: Mapping[str, str], graph: Graph, forward: ModelRunner, rows: CheckedRows
    ) -> list[ExportedForm]:
        batches = [*latency.work(forward, rows.answered)]
        expected = rows.answers(forward)
        weights = size((*graph.module.parameters(), *graph.module.buffers()))
        timings = [*latency.of_torch(graph, batches, self.threads)]
        forms = [
            ExportedForm(
                form="torch", bytes=weights, difference={}, agreement=None, metrics=expected.metrics, timings=timings
            )
        ]
        features = forward.features
        if not isinstance(rows.answered, AnsweredPieces):
            features = reading(forward.features, graph.outputs)
        for form, name in files.items():
            if form == "int8":
                self.tell("quantising")
                quantize(fresh / FILE, fresh / name)
            opened = partial(OnnxModel, fresh / name, forward.module, forward.accepted)
            model = opened()
            apart = differences(graph, model, rows.batches(forward))
            if form == "onnx":
                refuse_difference(apart, self.model)
            self.tell(f"evaluating {name}")
            found = rows.of_file(model, features)
            timings = [*latency.of_file(lambda threads, of=opened: of(threads=threads), batches, self.threads)]  # type: ignore[misc]  # a default
            forms.append(
                ExportedForm(
                    form=form,
                    bytes=_bytes(fresh / name),
                    difference=apart,
                    agreement=rows.agreement(found, expected),
                    metrics=found.metrics,
                    timings=timings,
                )
            )
        return forms

    def _use(
        self, task: BuiltTask, reader: Reader, module: nn.Module, example: Mapping[str, Tensor]
    ) -> Standalone | None:
        """How the exported model is used; None if its inputs are not what a known tokenizer gives."""
        if not tokenizer_file.has_file(reader.tokenizer) or not example.keys() <= ATTRIBUTES.keys():
            return None
        return task.standalone(reader, module)

    def _described(
        self, task: BuiltTask, use: Standalone | None, graph: Graph, example: Mapping[str, Tensor],
        files: Sequence[str],
    ) -> dict[str, Any]:  # fmt: skip
        """`config.json`."""
        kind = self.plan.spec.tasks[self.task]
        inputs: Mapping[str, Any] = (
            {name: ATTRIBUTES[name] for name in graph.inputs}
            if use is not None
            else {name: {"shape": list(each.shape), "dtype": str(each.numpy().dtype)} for name, each in example.items()}
        )
        return {
            "format": _FORMAT,
            "run": self.plan.source.variables.hide(self.plan.spec.name),
            "model": self.model,
            "task": kind.name,
            "files": list(files),
            "labels": list(task.head.labels),
            "inputs": inputs,
            "outputs": list(graph.outputs),
            **({} if use is None else {"reads": use.reads, "max_length": use.max_length}),
            **({"prompts": list(use.prompts)} if use is not None and any(use.prompts) else {}),
            **({"bare": use.bare} if use is not None and any(use.prompts) and use.reads == "words" else {}),
            **({} if use is None else use.about),
            "versions": {**model_folder.versions(), **model_folder.versions_of(_VERSIONS)},
        }


def thread_counts() -> tuple[int, ...]:
    """One thread, and as many as torch uses."""
    return tuple(dict.fromkeys((1, torch.get_num_threads())))


def _dynamic(tensor: Tensor, *, tokens: bool) -> tuple[int, ...]:
    """The axes whose length varies: rows, and the tokens of a text."""
    return (0, 1) if tokens and tensor.ndim == 2 else (0,)


def _bytes(file: Path) -> int:
    """Of an ONNX file, with its weights beside it."""
    return sum(path.stat().st_size for path in (file, file.with_name(f"{file.name}.data")) if path.is_file())


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
