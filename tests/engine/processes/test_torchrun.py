"""What torchrun tells a process, and what is refused."""

from __future__ import annotations

import pytest
import torch

from kdspec.cli import main
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes.torchrun import ALONE, Rank, check, device, place

VARIABLES = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RESTART_COUNT": "2",
}
TWO = Rank(rank=1, world=2, local_rank=1, local_world=2)


@pytest.mark.parametrize("environ", [{}, {"WORLD_SIZE": "1"}, {"MASTER_ADDR": "left over", "LOCAL_RANK": "0"}])
def test_without_torchrun_a_process_is_alone(environ):
    assert place(environ) == ALONE


def test_of_a_world_of_one_it_is_alone_as_well():
    zeros = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    assert place(VARIABLES | zeros) == ALONE


def test_rank_and_address_are_read_from_torchrun():
    assert place(VARIABLES) == Rank(3, 4, 1, 2, address="first", port=29500, attempt="2")


@pytest.mark.parametrize("name", [name for name in VARIABLES if not name.startswith("TORCH")])
def test_where_one_variable_is_missing_it_does_not_train_alone(name):
    with pytest.raises(FindingError, match="KD513") as caught:
        place({key: value for key, value in VARIABLES.items() if key != name})
    assert f"but not `{name}`" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"RANK": "4"}, "a rank is not below"),
        ({"LOCAL_RANK": "2"}, "a rank is not below"),
        ({"LOCAL_WORLD_SIZE": "8"}, "a rank is not below"),
        ({"WORLD_SIZE": "two"}, "`WORLD_SIZE` is `two`, not a number"),
        ({"MASTER_PORT": "-1"}, "`MASTER_PORT` is `-1`, not a number"),
    ],
)
def test_variables_that_contradict_each_other_are_refused(changes, told):
    with pytest.raises(FindingError, match=told):
        place(VARIABLES | changes)


def test_each_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device(TWO, None) == device(TWO, "cuda") == torch.device("cuda", 1)
    assert device(TWO, "cpu") == torch.device("cpu")
    assert device(ALONE, "cuda:1") == torch.device("cuda", 1)
    assert device(ALONE, None) == torch.device("cuda")
    with pytest.raises(FindingError, match="2 processes cannot all compute on `cuda:1`"):
        device(TWO, "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(FindingError, match="2 processes were started on a machine with 1 GPUs"):
        device(TWO, None)


def test_without_a_gpu_all_compute_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device(TWO, None) == device(ALONE, None) == torch.device("cpu")


def test_a_backend_for_several_is_refused_to_one():
    check(TWO, "fsdp")
    check(ALONE, "auto")
    with pytest.raises(FindingError, match="`--backend ddp` needs several processes"):
        check(ALONE, "ddp")


def test_the_command_ends_as_one_that_was_misused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["run", "spec.yaml"]) == 2
    told = capsys.readouterr().err
    assert "error[KD513]: the environment has `WORLD_SIZE=2`, but not `RANK`, `LOCAL_RANK`" in told
    assert "torchrun --nproc-per-node=2" in told
