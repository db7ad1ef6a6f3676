"""Calibration of a stage's student: fitted, folded, recorded, and the same however a run is started."""

from __future__ import annotations

import json
import math

import pytest
import torch
import transformers
from safetensors.torch import load_file

from kdspec.data.confidence import METRICS
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import Evaluated, StageFinished, StepDone
from kdspec.networks.text_networks import load
from kdspec.testing import tiny

BINNED = ("ece", "ece_adaptive", "coverage_at_95")
SPEC = """\
kdspec: 1
name: sure
seed: 2
tasks:
  rows: {TASK}
models:
  student: {MODEL}
stages:
  only:
    distiller: {supervised: {model: student}}
    training:
      {epochs: 3, batch_size: 4, optimizer: {adamw: {lr: 0.02}}, calibrate: METHOD, log_every: 1}
"""
DATA = "{csv: {train: train.csv, validation: validation.csv, test: test.csv}}"
CLASSES = f"{{sequence_classification: {{data: {DATA}, text: text, label: label}}}}"
LABELS = f"{{multi_label: {{data: {DATA}, text: text, label: topics, separator: ' '}}}}"
BERT = "{transformers: {path: ./tiny}}"
STAGE = "stages.only.training"


@pytest.fixture
def folder(tmp_path):
    """A tiny model; labels that a text does not tell, so that no student is always right, and a row without any."""
    tiny(tmp_path / "tiny", layers=1)
    for split, first, count in (("train", 0, 48), ("validation", 5, 24), ("test", 9, 20)):
        rows = []
        for n in range(first, first + count):
            good, odd = n % 2 == 0, n % 5 == 0
            topics = [*(["a"] if good != odd else []), *(["b"] if good == (n % 7 == 3) else [])]
            rows.append((f"{'good' if good else 'bad'} {n % 7}", "ab"[good != odd], " ".join(topics)))
        lines = "".join(",".join(row) + "\n" for row in [*rows, ("what", "", "a")])
        (tmp_path / f"{split}.csv").write_text(f"text,label,topics\n{lines}", encoding="utf-8")
    return tmp_path


def text(task=CLASSES, model=BERT, method="temperature"):
    return SPEC.replace("{TASK}", task).replace("{MODEL}", model).replace("METHOD", method)


def configuration(ran, at="student"):
    return json.loads((ran.folder / at / "config.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("task", [CLASSES, LABELS], ids=["classes", "labels"])
@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_a_calibrated_student_is_less_surprised_by_the_validation_rows(method, task, launch):
    ran = launch(text=text(task, method=method))
    plain = launch(text=text(task, method="null"), folder="plain")
    assert [event.loss for event in ran.of(StepDone)] == [event.loss for event in plain.of(StepDone)]
    (end,) = ran.of(StageFinished)
    found = end.calibration["rows"]
    assert (found["method"], found["rows"]) == (method, 24 if task is CLASSES else 25)
    assert found["before"]["nll"] == pytest.approx(plain.of(StageFinished)[0].metrics["nll"], abs=1e-6)
    assert found["after"]["nll"] <= found["before"]["nll"] + 1e-9
    assert set(METRICS) <= found["after"].keys() == found["before"].keys()
    assert (
        configuration(ran)["kdspec_calibration"]
        == configuration(ran, "models/student")["kdspec_calibration"]
        == found["values"]
    )
    assert "kdspec_calibration" not in configuration(plain)
    weight, bias = (
        (weights["classifier.weight"].double(), weights["classifier.bias"].double())
        for weights in (load_file(each.folder / "student" / "model.safetensors") for each in (plain, ran))
    )
    values = found["values"]
    scale = torch.tensor(
        values.get("scale", [1 / values["temperature"]] * 2 if "temperature" in values else 0)
    ).double()
    shift = torch.tensor(values.get("bias", [0.0, 0.0])).double()
    assert torch.allclose(bias[0], weight[0] * scale[:, None], atol=1e-6)
    assert torch.allclose(bias[1], weight[1] * scale + shift, atol=1e-6)
    (row,) = ran.result.table
    (other,) = plain.result.table
    assert row.calibration.values == values
    for name, value in row.calibration.before.items():
        # A row whose confidence is at the edge of a bin, but for rounding, may be in either.
        assert value == pytest.approx(other.metrics[name], abs=0.1 if name in BINNED else 1e-5), name


@pytest.mark.usefixtures("folder")
def test_every_program_that_loads_the_student_has_it(launch):
    """The probabilities of the pipeline are those of the logits before, divided by the temperature."""
    ran, plain = launch(text=text()), launch(text=text(method="null"), folder="plain")
    temperature = configuration(ran)["kdspec_calibration"]["temperature"]
    rows = ["good 3", "bad 1"]
    said = transformers.pipeline("text-classification", model=str(ran.folder / "student"), top_k=None)(rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(plain.folder / "student")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(plain.folder / "student").eval()
    with torch.no_grad():
        logits = model(**tokenizer(rows, padding=True, return_tensors="pt")).logits
    for row, shares in zip(said, (logits / temperature).softmax(-1).tolist(), strict=True):
        named = dict(zip(model.config.id2label.values(), shares, strict=True))
        assert {found["label"]: found["score"] for found in row} == pytest.approx(named, abs=1e-5)
    card = (ran.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "## Calibration\n" in card
    assert "| student (trained, not calibrated) |" in card
    assert "## Calibration" in (ran.folder / "models" / "student" / "README.md").read_text(encoding="utf-8")
    assert "Calibration" not in (plain.folder / "student" / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "model",
    [
        "{bigru: {tokenizer: ./tiny, hidden: 8, embedding: 8}}",
        "{textcnn: {tokenizer: ./tiny, filters: 4, embedding: 8}}",
        "{static: {tokenizer: ./tiny, width: 8}}",
    ],
    ids=["bigru", "textcnn", "static"],
)
def test_networks_are_calibrated_and_can_be_trained_again(model, launch):
    ran = launch(text=text(model=model, method="vector"))
    (end,) = ran.of(StageFinished)
    assert configuration(ran)["kdspec_calibration"] == end.calibration["rows"]["values"]
    module, tokenizer = load(ran.folder / "student")
    with torch.no_grad():
        assert module(**tokenizer("good 3", return_tensors="pt"))["logits"].isfinite().all()
    kind = model[1:].partition(":")[0]
    again = f"{{{kind}: {{path: {ran.folder / 'student'}}}}}"
    trained = launch(text=text(model=again, method="null"), folder="again")
    assert "kdspec_calibration" not in configuration(trained)


@pytest.mark.usefixtures("folder")
def test_a_run_that_resumes_has_the_same_student(session, launch, same, monkeypatch):
    whole = launch(text=text())
    stopped = session(text=text(), folder="stopped")
    from kdspec.engine.run import stage_run

    def killed(*_, **__):
        raise Interrupted(15)

    with monkeypatch.context() as patched:
        patched.setattr(stage_run, "write_card", killed)
        with pytest.raises(Interrupted):
            stopped.run()
    resumed = launch(text=text(), folder="stopped")
    assert same.bits(whole.weights, resumed.weights)
    assert configuration(whole) == configuration(resumed)
    assert whole.of(StageFinished)[0].calibration == resumed.of(StageFinished)[-1].calibration
    # The table is made again from what is on the disk.
    (resumed.folder / "table.json").unlink()
    again = launch(text=text(), folder="stopped")
    assert again.result.table[0].calibration == whole.result.table[0].calibration
    assert again.result.table[0].metrics == pytest.approx(whole.result.table[0].metrics)


@pytest.mark.usefixtures("folder")
def test_a_later_stage_has_a_calibration_of_its_own(launch):
    more = "stages.more={distiller: {supervised: {model: student}}, training: {epochs: 1, CALIBRATE}}"
    ran = launch(more.replace("CALIBRATE", "batch_size: 4"), text=text())
    assert "kdspec_calibration" not in configuration(ran)
    assert ran.result.table[0].calibration is None
    twice = launch(more.replace("CALIBRATE", "batch_size: 4, calibrate: vector"), text=text(), folder="twice")
    assert configuration(twice)["kdspec_calibration"].keys() == {"scale", "bias"}


@pytest.mark.usefixtures("folder")
def test_rows_that_determine_nothing_are_told(folder, launch):
    lines = "".join(f"{'good' if n % 2 else 'bad'},{'ab'[n % 2]}\n" for n in range(16))
    for split in ("train", "validation", "test"):
        (folder / f"{split}.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
    ran = launch(f"{STAGE}.epochs=30", text=text())
    assert ran.of(Evaluated)[-1].metrics["accuracy"] == 1
    assert any("does not calibrate task `rows`: the validation rows do not determine it" in note for note in ran.notes)
    assert ran.of(StageFinished)[0].calibration == {}
    assert "kdspec_calibration" not in configuration(ran)


def test_vector_needs_rows_of_each_class(folder, launch):
    lines = "".join(f"good {n},{'a' if n % 3 else 'b'}\n" for n in range(9))
    (folder / "train.csv").write_text(f"text,label\n{lines}good,c\n", encoding="utf-8")
    (folder / "validation.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
    (folder / "test.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
    ran = launch(text=text(method="vector"))
    assert any(
        "needs validation rows with and without each class, which is not so of `c`" in note for note in ran.notes
    )


def test_rows_without_labels_are_refused_before_training(folder, launch):
    (folder / "validation.csv").write_text("text,label\nwhat,\nelse,\n", encoding="utf-8")
    with pytest.raises(FindingError, match="no validation row of task `rows` has a label") as caught:
        launch(text=text())
    assert (caught.value.findings[0].code, caught.value.findings[0].at) == (
        "KD321",
        ("stages", "only", "training", "calibrate"),
    )


def test_a_decoder_without_a_bias_is_refused_a_vector_before_training(folder, launch):
    tiny(folder / "decoder", family="gpt2", layers=1)
    with pytest.raises(FindingError, match="its last layer has no bias") as caught:
        launch(text=text(model="{transformers: {path: ./decoder}}", method="vector"))
    assert caught.value.findings[0].help == "write `calibrate: temperature`"
    ran = launch(text=text(model="{transformers: {path: ./decoder}}"), folder="temperature")
    assert not math.isnan(configuration(ran)["kdspec_calibration"]["temperature"])
