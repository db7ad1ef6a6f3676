"""`kdspec fetch`: runs the script of the specs, from a checkout and from an installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kdspec.cli import main

ROOT = Path(__file__).parent.parent.parent.parent


def fetch(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kdspec", "fetch", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_there_is_is_listed_with_its_licence(tmp_path):
    done = fetch("headlines", "--list", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "licence" in done.stdout


def test_what_is_missing_is_told_on_standard_output(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "headlines", "--verify", "--into", "elsewhere"]) == 1
    assert capfd.readouterr().out == "headlines: not fetched\n"


def test_an_unknown_name_is_an_error(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "headlnes"]) == 1
    assert "no asset named headlnes" in capfd.readouterr().err


def test_the_wheel_has_the_specs_their_data_and_the_script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "specs"))
    from hatch_build import SpecsHook

    hook, files = object.__new__(SpecsHook), {"force_include": {}}
    monkeypatch.setattr(SpecsHook, "root", str(ROOT), raising=False)
    hook.initialize("standard", files)
    inside = set(files["force_include"].values())
    assert {"kdspec/specs/quickstart.yaml", "kdspec/specs/fetch.py", "kdspec/specs/catalogue.py"} <= inside
    assert "kdspec/specs/basics/data/pairs-train.jsonl" in inside
    assert not [path for path in inside if "assets" in path or "hatch_build" in path]
