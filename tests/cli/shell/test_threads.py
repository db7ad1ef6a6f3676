"""How a process of the command line lets its threads wait."""

from __future__ import annotations

import os
import sys

import pytest

from kdspec.cli import main
from kdspec.cli.shell.threads import share_processors


def test_threads_that_wait_sleep_soon():
    environment = {}
    share_processors(environment)
    assert int(environment["GOMP_SPINCOUNT"]) > 0


@pytest.mark.parametrize("said", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "5"}])
def test_a_setting_of_the_user_is_kept(said):
    environment = dict(said)
    share_processors(environment)
    assert environment == said


def test_only_a_process_of_its_own_has_its_environment_changed(monkeypatch, capsys):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.delenv("GOMP_SPINCOUNT")  # put back after the test, whatever happens
    main(["--version"])
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setattr(sys, "argv", ["kdspec", "--version"])
    main()
    assert "GOMP_SPINCOUNT" in os.environ
    assert "kdspec" in capsys.readouterr().out
