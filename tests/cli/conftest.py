"""Running the command line inside of the test, and a spec to run it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kdspec.cli import main

TINY = Path(__file__).parent.parent / "data" / "tiny"
SPEC = (Path(__file__).parent.parent / "diagnostics" / "fine.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def kdspec(capsys):
    """`kdspec("list", "loss")` runs a command in this process."""

    def run(*arguments):
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """Writes the valid spec, with a text in it replaced, as `spec.yaml` into an empty working folder."""
    monkeypatch.chdir(tmp_path)
    fine = SPEC.replace("../data/tiny", str(TINY))

    def write(old="", new="", name="spec.yaml"):
        assert old in fine
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fine.replace(old, new, 1) if old else fine, encoding="utf-8")
        return path

    return write
