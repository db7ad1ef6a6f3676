"""The measurement of matrix products, and when a kept one counts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from kdspec.engine.machine import processor_speed
from kdspec.engine.machine.processor_speed import ProcessorSpeed, keep, kept, measure
from kdspec.engine.machine.processors import processor_name


@pytest.fixture
def speed():
    return ProcessorSpeed(processor_name(), torch.__version__, torch.get_num_threads(), fp32=1e10, bf16=5e10)


def test_a_measurement_is_of_this_processor_and_leaves_the_random_state(monkeypatch):
    monkeypatch.setattr(processor_speed, "_ROWS", 8)
    monkeypatch.setattr(processor_speed, "_WIDTH", 8)
    monkeypatch.setattr(processor_speed, "_SECONDS", 0.01)
    state = torch.get_rng_state()
    found = measure()
    assert found.fp32 > 0 < found.bf16
    assert (found.processor, found.torch, found.threads) == (
        processor_name(), str(torch.__version__), torch.get_num_threads()
    )  # fmt: skip
    assert torch.equal(state, torch.get_rng_state())


def test_a_kept_measurement_reads_back(speed, tmp_path):
    assert kept(tmp_path) is None
    keep(speed, tmp_path)
    assert kept(tmp_path) == speed
    assert speed.gain == 5


def test_that_of_other_threads_or_another_processor_does_not_count(speed, tmp_path, monkeypatch):
    file = keep(speed, tmp_path)
    file.write_text(json.dumps(asdict(replace(speed, processor="another"))))
    assert kept(tmp_path) is None
    keep(speed, tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert kept(tmp_path) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fp32": 1}', "nan", "inf", "0", "-1", '"1"'])
def test_a_damaged_one_does_not_count(speed, tmp_path, damage):
    file = keep(speed, tmp_path)
    file.write_text(damage if damage in ("", "{", "[]") or "{" in damage else
                    json.dumps(asdict(speed)).replace("50000000000.0", damage))  # fmt: skip
    assert kept(tmp_path) is None
