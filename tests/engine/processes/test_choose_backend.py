from __future__ import annotations

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.processes.choose_backend import BackendChoice, join
from kdspec.engine.processes.process_group import ProcessGroup


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_single_process_has_one_backend_with_its_process_group(precision):
    process_group = ProcessGroup()
    made = BackendChoice().backend(process_group, precision)
    assert type(made) is SingleProcess
    assert made.process_group is process_group
    assert made.device == process_group.device


def test_a_strategy_for_several_processes_is_refused_without_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FindingError) as caught:
        join("cpu", "fsdp")
    assert caught.value.findings[0].code == "KD513"


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with join("cpu", "auto") as process_group:
        assert process_group.world == 1
        assert process_group.is_main
