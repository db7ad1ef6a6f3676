"""The short form of `kills.py`, whose long form is a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 8
TERMINATIONS = 6


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["general", "multi_task", "theseus", "whole"])
def test_runs_that_are_killed_at_random_moments_end_in_the_same_bits(strategy):
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--kills", str(KILLS), "--strategy", strategy]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert not done.returncode, done.stdout + done.stderr
    accumulator = json.loads(done.stdout.splitlines()[-1])
    assert accumulator["kills"] == KILLS
    assert accumulator["runs"]


@pytest.mark.slow
def test_a_command_that_is_told_to_end_at_random_moments_does_so_and_ends_in_the_same_bits():
    script = str(Path(__file__).with_name("kills.py"))
    command = [sys.executable, script, "--terminations", str(TERMINATIONS), "--strategy", "whole"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert not done.returncode, done.stdout + done.stderr
    accumulator = json.loads(done.stdout.splitlines()[-1])
    assert accumulator["kills"] == TERMINATIONS
    assert accumulator["slowest"] <= 5
