"""What of Accelerate's configuration the backend takes, and what it refuses; training is in `test_distributed.py`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import pytest

from kdspec.cli import main
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes import torchrun
from kdspec.engine.processes.accelerate import check, check_environment, read
from kdspec.engine.processes.torchrun import Rank

TWO = Rank(rank=0, world=2, local_rank=0, local_world=2)


@dataclass(frozen=True)
class Two:
    """All that is asked of a team."""

    world: int = 2


def checked(tmp_path, text, precision="fp32"):
    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    check(read(path), path, Two(), precision)


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("distributed_type: MULTI_CPU", "fp32"),
        (
            "{distributed_type: MULTI_GPU, num_processes: 2, machine_rank: 1, main_process_ip: first, gpu_ids: all}",
            "fp32",
        ),
        ("{distributed_type: MULTI_GPU, mixed_precision: bf16, deepspeed_config: {}, debug: true}", "bf16"),
    ],
)
def test_what_goes_with_the_run_is_taken(tmp_path, text, precision):
    checked(tmp_path, text, precision)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "{distributed_type: FSDP, fsdp_config: {fsdp_version: 2}}",
            "is for `FSDP`, which this backend does not support",
        ),
        (
            "{distributed_type: DEEPSPEED, deepspeed_config: {zero_stage: 2}}",
            "is for `DEEPSPEED`, which this backend does not",
        ),
        ("distributed_type: 'NO'", "is for `NO`, which this backend does not support"),
        ("{distributed_type: MULTI_GPU, num_processes: 8}", "is for 8 processes, but torchrun has started 2"),
        ("{distributed_type: MULTI_GPU, mixed_precision: bf16}", "but the spec `precision: fp32`"),
        ("{distributed_type: MULTI_GPU, dynamo_config: {dynamo_backend: INDUCTOR}}", "`dynamo_config` in"),
        ("{distributed_type: MULTI_GPU, wings: 2}", "unknown keys \\(\\['wings'\\]\\)"),
        ("{num_processes: 2}", "A `distributed_type` must be specified"),
        ("distributed_type: SWARM", "is not a configuration of Accelerate: 'SWARM' is not a valid DistributedType"),
        ("[", "is not a configuration of Accelerate"),
        ("- 1", "is not a configuration of Accelerate"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, text, told):
    with pytest.raises(FindingError, match=f"KD515 .*{told}"):
        checked(tmp_path, text)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(FindingError, match=r"KD515 .* does not exist"):
        read(tmp_path / "accelerate.yaml")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "which this backend does not support"),
        ("ACCELERATE_USE_FSDP", "True", "which this backend does not support"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "to `bf16`, which would have no effect"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "to `inductor`, which would have no effect"),
    ],
)
def test_variables_of_accelerate_launch_are_refused_too(name, value, told):
    usual = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_FSDP": "false"}
    check_environment(usual, "fp32")
    with pytest.raises(FindingError, match=f"KD515 `accelerate launch` has set `{name}`.* {told}"):
        check_environment({**usual, name: value}, "fp32")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FindingError, match="KD515 `--backend accelerate` needs the package `accelerate`") as caught:
        torchrun.check(TWO, "accelerate")
    assert caught.value.findings[0].help == "`pip install 'kdspec[accelerate]'` installs it"


def test_a_configuration_needs_the_backend(capsys):
    assert main(["run", "spec.yaml", "--accelerate-config", "accelerate.yaml"]) == 2
    assert "needs `--backend accelerate`" in capsys.readouterr().err
