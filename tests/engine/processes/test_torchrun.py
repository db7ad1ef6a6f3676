"""What torchrun tells a process, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from kdspec.cli import main
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes.torchrun import ALONE, Rank, check, device, place, quiet_store

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


def test_the_log_of_torchs_store_is_quiet_unless_the_user_wants_it():
    environ = {}
    quiet_store(environ)
    assert environ == {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    environ = {"TORCH_CPP_LOG_LEVEL": "INFO"}
    quiet_store(environ)
    assert environ == {"TORCH_CPP_LOG_LEVEL": "INFO"}


def test_a_run_of_several_makes_it_quiet_before_torch_is_there():
    """As `kdspec run` begins, in a process of its own: torch reads the variable once."""
    code = """
import os, sys
os.environ |= {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
from kdspec.engine.processes import torchrun
quiet = torchrun.quiet_store
def stop(environ):
    quiet(environ)
    assert "torch" not in sys.modules
    print(environ["TORCH_CPP_LOG_LEVEL"], file=sys.stderr, flush=True)
    os._exit(0)
torchrun.quiet_store = stop
from kdspec.cli import main
main(["run", "spec.yaml"])
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stderr.strip() == "ERROR"


LOST = """
import os, signal, socket, sys, time
from datetime import timedelta
from kdspec.engine.processes.torchrun import Rank, quiet_store
quiet_store(os.environ)
import torch
from kdspec.engine.processes.process_group import ProcessGroup
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
signal.signal(signal.SIGTERM, lambda *_: None)
children = []
for rank in range(2):
    child = os.fork()
    if child:
        children.append(child)
        continue
    group = ProcessGroup(Rank(rank, 2, rank, 2, "127.0.0.1", port), patience=timedelta(seconds=30))
    try:
        with group:
            group.barrier()
            if rank == 0 and sys.argv[1] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 0:
                raise ValueError("refused")
            try:
                group.barrier()
            except RuntimeError as error:
                raise group.explained(error) from None
    except Exception as error:
        print(rank, error, file=sys.stderr, flush=True)
    os._exit(0)
for child in children:
    os.waitpid(child, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_the_death_of_the_process_that_keeps_the_store_prints_no_stack_of_another_language(how):
    made = subprocess.run([sys.executable, "-c", LOST, how], capture_output=True, text=True, check=True, timeout=120)
    last = [line for line in made.stderr.splitlines() if line]
    assert last[-1].startswith("1 KD514 process 0 of 2")
    assert last[:-1] == ([] if how == "killed" else ["0 refused"])
