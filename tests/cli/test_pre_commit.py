"""The hook for pre-commit: what it runs, and on which files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from kdspec.cli import main

ROOT = Path(__file__).parent.parent.parent


def test_the_hook_validates_the_specs_that_it_is_given(spec, capsys):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    program, *arguments = shlex.split(hook["entry"])
    assert program == "kdspec"
    assert re.search(hook["files"], "specs/basics/teacher.yaml")
    spec(name="fine.yaml")
    spec("loss: kl", "loss: kll", name="wrong.yaml")
    assert main([*arguments, "fine.yaml"]) == 0
    assert main([*arguments, "fine.yaml", "wrong.yaml"]) == 1
    assert "KD201" in capsys.readouterr().out
