"""A process group of one, and one in which the other processes never start."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
import torch

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.processes.torchrun import Rank


def test_of_one_process_everything_is_its_own():
    tensors = {"a": torch.ones(2)}
    with ProcessGroup() as process_group:
        assert (
            process_group.is_main,
            process_group.largest(3),
            process_group.collect([1]),
            process_group.share("x"),
        ) == (True, 3, [[1]], "x")
        assert process_group.sum(tensors["a"]) is tensors["a"]
        assert process_group.spread(tensors) == tensors
        assert process_group.bring(tensors)[0]["a"].tolist() == [1, 1]
        error = RuntimeError("gloo: connection closed")
        assert process_group.explained(error) is error
        assert not process_group.main_reports()


@pytest.mark.slow
def test_processes_that_never_connect_get_the_address_in_the_error(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    place = Rank(0, 2, 0, 2, address="127.0.0.1", port=port)
    process_group = ProcessGroup(place, patience=timedelta(seconds=1))
    with pytest.raises(FindingError, match="KD514") as caught, process_group:
        pass
    (found,) = caught.value.findings
    assert found.message == f"process 0 of 2 could not connect to all others at `127.0.0.1:{port}`"
    assert found.notes
