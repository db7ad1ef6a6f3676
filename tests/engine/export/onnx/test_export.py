"""Models of plugins as ONNX files: without a tokenizer, refused where the file would not be the model, and cleaned up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from exported import use
from tiny_readers import TEXTS, language_model, written
from torch import nn

from kdspec import Model
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.export.onnx.checked import OutputDifference, refuse_difference
from kdspec.engine.export.onnx.export import Exporter
from kdspec.engine.export.onnx.finish import finish, placeholders
from kdspec.engine.run.run_folder import RunFolder
from kdspec.testing import plan, registry, run

SPEC = """\
kdspec: 1
name: plain
tasks: {rows: {tensors: {data: {json: {train: rows.jsonl, validation: rows.jsonl}}, labels: label}}}
models: {student: {plain: {does: %s}}}
adaptors: {student: {logits: '%s', labels: batch.label}}
stages:
  s:
    distiller: {supervised: {model: student}}
    training: {steps: 1, batch_size: 4, evaluate: null}
"""


PROMPTED = """\
kdspec: 1
name: asked
tasks:
  topics:
    sequence_classification: {data: {csv: {train: train.csv}}, text: text, label: label, labels: [x, y, z]}
models:
  reader: {llm_reader: {path: ./lm, prompt: "w1 {text} w2 {options} w3", options: {x: w5, y: w6 w7, z: w8}}}
  student: {bigru: {tokenizer: ./lm, embedding: 8, hidden: 8}}
stages:
  distil:
    distiller: {general: {teacher: reader, student: student}}
    training: {steps: 1, batch_size: 4, evaluate: null}
"""


class Plain(Model):
    """A linear layer on a column of numbers."""

    name = "plain"
    does: str = "nothing"
    """What it does beside."""

    def build(self, context: Any) -> Any:
        does = self.does

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.out = nn.Linear(3, 2)

            def forward(self, numbers: Any) -> dict[str, Any]:
                logits = self.out(numbers)
                if does == "another thing" and torch.compiler.is_exporting():
                    logits = logits + 1
                if does == "depends on values" and bool((logits > 100).any()):
                    logits = logits * 2
                return {"logits": logits}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return Module()


@pytest.fixture
def exporter(tmp_path):
    def make(does="nothing", logits="output.logits") -> Exporter:
        rows = [{"numbers": [row + 0.5, row % 3, -row], "label": row % 2} for row in range(9)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = SPEC % (does, logits)
        folder = run(text, tmp_path / "runs", Plain, folder=tmp_path).folder
        planned = plan(text, registry(Plain), folder=tmp_path)
        return Exporter(
            plan=planned, run=RunFolder(folder), model="student", task="rows", int8=False, threads=(1,), tell=lambda _: None
        )  # fmt: skip

    return make


@pytest.mark.slow
def test_a_model_without_tokens_has_a_script_that_shows_its_outputs(exporter, tmp_path):
    exported = exporter().write(tmp_path / "out")
    assert [form.form for form in exported.forms] == ["torch", "onnx"]
    assert exported.forms[1].difference["logits"].relative < 1e-6
    assert {timing.tokens for timing in exported.forms[1].timings} == {0}
    assert not (tmp_path / "out" / "tokenizer.json").exists()
    assert use(tmp_path / "out") == ["logits (2, 2)"]
    described = json.loads((tmp_path / "out" / "config.json").read_text())
    assert described["inputs"] == {"numbers": {"shape": [2, 3], "dtype": "float32"}}
    shapes = onnx.load(str(tmp_path / "out" / "model.onnx")).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shapes] == ["rows", 3]


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_written(exporter, tmp_path):
    made = exporter("another thing")
    with pytest.raises(FindingError) as raised:
        made.write(tmp_path / "out")
    (finding,) = raised.value.findings
    assert (finding.code, finding.at) == ("KD532", ("models", "student"))
    assert "`logits` differs from the model's by up to 1, " in finding.message
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "runs"}


@pytest.mark.slow
def test_a_model_whose_steps_depend_on_values_is_refused(exporter, tmp_path):
    made = exporter("depends on values")
    with pytest.raises(FindingError, match="KD531 torch cannot export the model to ONNX"):
        made.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_inside_of_a_model_are_refused(exporter, tmp_path):
    made = exporter(logits='modules["out"].output')
    with pytest.raises(FindingError, match="`logits` of `student` is read inside of it") as raised:
        made.write(tmp_path / "out")
    assert raised.value.findings[0].code == "KD531"


def test_a_language_model_that_answers_prompts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    language_model(tmp_path / "lm")
    written(tmp_path, "train.csv", TEXTS)
    folder = run(PROMPTED, tmp_path / "runs", folder=tmp_path).folder
    made = Exporter(
        plan=plan(PROMPTED, registry(), folder=tmp_path), run=RunFolder(folder), model="reader", task="topics", int8=False,
        threads=(1,), tell=lambda _: None,
    )  # fmt: skip
    with pytest.raises(FindingError, match="KD531 `reader` answers a prompt for each row"):
        made.write(tmp_path / "out")


@pytest.mark.parametrize("relative", [2e-3, float("inf"), float("nan")])
def test_a_difference_above_rounding_is_refused(relative):
    refuse_difference({"logits": OutputDifference(1e-6, 5e-4)}, "student")
    with pytest.raises(FindingError, match="the ONNX file of `student` computes something else"):
        refuse_difference({"logits": OutputDifference(1.0, relative)}, "student")


def test_an_inner_value_gives_up_the_name_of_an_output(tmp_path):
    tensor = onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("Neg", ["kdspec_in_0"], ["embedding"], doc_string=f"File {Path(__file__)}"),
        onnx.helper.make_node("Abs", ["embedding"], ["kdspec_out_0"]),
    ]
    value = [onnx.helper.make_tensor_value_info(name, tensor, [2]) for name in ("kdspec_in_0", "kdspec_out_0")]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "a.onnx"))
    assert (placeholders("in", ["x"]), placeholders("out", ["x"])) == (["kdspec_in_0"], ["kdspec_out_0"])
    finish(tmp_path / "a.onnx", {"kdspec_in_0": "numbers", "kdspec_out_0": "embedding"})
    found = onnx.load(str(tmp_path / "a.onnx"))
    onnx.checker.check_model(found)
    assert [(each.input[0], each.output[0]) for each in found.graph.node] == [
        ("numbers", "embedding_inner_0"), ("embedding_inner_0", "embedding"),
    ]  # fmt: skip
    assert [found.graph.input[0].name, found.graph.output[0].name] == ["numbers", "embedding"]
    assert str(Path(__file__)).encode() not in (tmp_path / "a.onnx").read_bytes()


def test_nothing_of_onnx_is_imported_before_it_is_needed():
    import subprocess

    code = "import sys, kdspec.cli.commands.one_run.export, kdspec.engine.export.onnx.export\n"
    code += "print([name for name in ('onnx', 'onnxruntime', 'onnxscript') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
