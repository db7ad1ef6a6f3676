"""The losses of whole runs, through a spec and the real engine, equal those of TextBrewer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kdspec import load_registry
from kdspec.cli import main
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.events import StepDone
from kdspec.planning.prepare import prepare
from kdspec.source.extends import load

HERE = Path(__file__).parent
DISTILLER = "stages.distil.distiller.general"

REPOSITORY = [
    2.6453129407, 2.5965326519, 2.1882595416, 2.3350708489, 1.9053494624, 2.0846118480,
    1.8114381177, 1.7682968845, 1.3733537607, 1.5176688905, 1.0935785425, 1.2685831023,
]  # fmt: skip
RELEASE = [
    2.6461733549, 2.5970710520, 2.1886847777, 2.3354770716, 1.9059189343, 2.0854723694,
    1.8122985220, 1.7688381353, 1.3737788738, 1.5180757059, 1.0941450409, 1.2694434952,
]  # fmt: skip
FIRST_TERMS = {
    "soft_labels": 1.6101938187,
    "hidden.hidden_mse.2-1": 0.135600905,
    "hidden.mmd.0-0": 0.0023389546,
    "hard_labels": 1.7966974795,
}
FINAL_SUMS = {
    "emb.weight": 0.7488192256,
    "ls.0.weight": 0.00522817,
    "ls.0.bias": 0.0621822151,
    "out.weight": -0.1283648507,
    "out.bias": -0.6652618181,
}


def run(folder: Path, *sets: str) -> list[StepDone]:
    registry = load_registry(HERE / "chain_plugin.py", installed=False)
    document = load(HERE / "trajectory.yaml", sets=sets, environ={})
    made = prepare(document, registry)
    assert made.plan is not None, [str(found) for found in made.errors]
    Session(made.plan, registry, output=folder, device="cpu").run()
    return [record.event for record in read(folder / "golden" / "events.jsonl") if isinstance(record.event, StepDone)]


def losses(steps: list[StepDone]) -> list[float]:
    return [loss for step in steps for loss in step.micro_losses]


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-8, abs=1e-10)


def test_every_micro_batch_has_the_loss_of_the_repository_version(tmp_path: Path) -> None:
    assert losses(run(tmp_path)) == close(REPOSITORY)


def test_final_weights_are_those_of_the_repository_version(tmp_path: Path) -> None:
    run(tmp_path)
    student = load_file(tmp_path / "golden" / "student" / "model.safetensors")
    assert {name: float(tensor.sum()) for name, tensor in student.items()} == close(FINAL_SUMS)
    checkpoint = load_file(tmp_path / "golden" / "checkpoints" / "distil" / "step-00000006" / "weights.safetensors")
    projection = next(t for name, t in checkpoint.items() if name.endswith("projection.weight"))
    assert float(projection.sum()) == close(-0.4362312051)


def test_the_weight_of_the_soft_labels_decays_with_the_steps_done(tmp_path: Path) -> None:
    weights = [step.weights.get("soft_labels") for step in run(tmp_path)]
    assert weights == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_the_release_divides_masked_gram_matrices_by_the_length(tmp_path: Path) -> None:
    scaled = "[{feature: hidden, loss: hidden_mse, layers: {2: 1}, projection: sine}, "
    scaled += "{feature: hidden, loss: {mmd: {scale: length}}, layers: {0: 0}, weight: 0.5}]"
    assert losses(run(tmp_path, f"{DISTILLER}.matches={scaled}")) == close(RELEASE)


@pytest.mark.parametrize(
    ("change", "beginning", "end"),
    [
        (
            "soft_labels.probability_shift=true",
            [2.6452914602, 2.5965109910, 2.1881059284, 2.3350513213],
            [1.0935781240, 1.2685813948],
        ),
        (
            "soft_labels.temperature={flsw: {base: 8, beta: 1, gamma: 2}}",
            [2.6453126830, 2.5965317840, 2.1882595011],
            [1.2685830757],
        ),
        ("soft_labels.loss=mse", [1.0386371085, 0.9898148237, 0.8493308741], [1.0006685841]),
    ],
    ids=["probability_shift", "flsw", "mse"],
)
def test_variants_follow_the_repository_version(
    change: str, beginning: list[float], end: list[float], tmp_path: Path
) -> None:
    found = losses(run(tmp_path, f"{DISTILLER}.{change}"))
    assert found[: len(beginning)] == close(beginning)
    assert found[-len(end) :] == close(end)


def test_all_terms_of_the_first_step_are_as_recorded(tmp_path: Path) -> None:
    """One micro-batch a step shows the parts of the very first micro-batch on their own."""
    first = run(tmp_path, "stages.distil.training.accumulate=1")[0]
    assert first.terms == close(FIRST_TERMS)


def test_two_runs_are_equal_to_the_bit(tmp_path: Path) -> None:
    first, second = (load_student(tmp_path / name) for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def load_student(folder: Path) -> dict[str, torch.Tensor]:
    run(folder)
    return load_file(folder / "golden" / "student" / "model.safetensors")


CONFIGURATION = {
    "temperature": 8,
    "kd_loss_weight_scheduler": "linear_decay",
    "hard_label_weight": 0.5,
    "intermediate_matches": [
        {
            "layer_T": 2,
            "layer_S": 1,
            "feature": "hidden",
            "loss": "hidden_mse",
            "weight": 1,
            "proj": ["sine", 4, 6],
        },
        {"layer_T": [0, 0], "layer_S": [0, 0], "feature": "hidden", "loss": "mmd", "weight": 0.5},
    ],
    "gradient_accumulation_steps": 2,
    "num_epochs": 2,
    "max_grad_norm": 1.0,
}
NOT_IN_A_CONFIGURATION = {
    "batch_size": 2,
    "shuffle": False,
    "optimizer": {"sgd": {"lr": 0.1}},
    "lr_schedule": "harmonic",
    "evaluate": None,
    "log_every": 1,
}
"""What TextBrewer takes as objects: the data loader, the optimizer and its scheduler."""


@pytest.mark.parametrize(("dialect", "expected"), [("master", REPOSITORY), ("pypi", RELEASE)])
def test_textbrewers_own_configuration_imported_has_its_losses(
    dialect: str, expected: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGURATION))
    plugin = str(HERE / "chain_plugin.py")
    code = main(["--plugin", plugin, "import-textbrewer", str(tmp_path / "config.json"), "--dialect", dialect])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    stage = yaml.safe_load(captured.out)["stages"]["distil"]
    stage["training"] |= NOT_IN_A_CONFIGURATION
    written = yaml.safe_dump(stage, default_flow_style=True, width=10_000).strip()
    assert losses(run(tmp_path, f"stages.distil={written}")) == close(expected)
