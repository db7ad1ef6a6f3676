"""`kdspec fetch`: runs the script of the specs, from a checkout and from an installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent


def fetch(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kdspec", "fetch", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_there_is_is_listed_with_its_licence(tmp_path):
    done = fetch("headlines", "--list", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "licence" in done.stdout


@pytest.mark.slow
def test_what_is_missing_is_told_and_an_unknown_name_is_an_error(tmp_path):
    done = fetch("headlines", "--verify", "--into", "elsewhere", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "headlines: not fetched\n")
    assert "no asset named headlnes" in fetch("headlnes", folder=tmp_path).stderr


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
