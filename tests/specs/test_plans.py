"""What `kdspec plan` shows of each spec of the library, rehearsal included, is as it was recorded.

    RECORD=1 python -m pytest tests/specs/test_plans.py

records all of them anew in `tests/specs/plans/`; read `git diff` of it before you commit. Small models stand in for
those of `specs/assets`, so that nothing needs to be fetched.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from kdspec.diagnostics.place import in_order, place
from kdspec.planning.outline import outline
from kdspec.planning.prepare import prepare
from kdspec.rehearsal.rehearse import rehearse
from kdspec.rehearsal.result import as_data, settled
from kdspec.render.plan import page
from kdspec.source.extends import load

ROOT = Path(__file__).parent.parent.parent
SPECS = ROOT / "specs"
PLANS = Path(__file__).parent / "plans"
FILES = sorted(str(path.relative_to(SPECS)) for path in SPECS.rglob("*.yaml") if "assets" not in path.parts)
FIRST = ("quickstart.yaml", "recipes/minilm.yaml")
"""Two that take no more than a second. The others are slow: up to three seconds each, and a minute together."""
RECORD = "RECORD=1 python -m pytest tests/specs/test_plans.py"


def shown(file, registry):
    """What the command shows: first what it has found, then the plan."""
    document = load(file.name, environ={})
    prepared = prepare(document, registry)
    made = prepared.plan
    assert made is not None, prepared.errors
    rehearsal = rehearse(made, registry)
    found = in_order(place(prepared.findings, document))
    told = [f"{d.severity}[{d.code}]: {d.message}\n" for d in (*found, *rehearsal.findings)]
    console = Console(file=io.StringIO(), width=120, color_system=None, legacy_windows=False)
    console.print(page(outline(settled(made, rehearsal)) | {"rehearsal": as_data(rehearsal)}))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "".join(told) + "\n".join(lines).rstrip() + "\n"


@pytest.mark.parametrize("file", [pytest.param(file, marks=[pytest.mark.slow] * (file not in FIRST)) for file in FILES])
def test_the_plan_of_a_spec_of_the_library(file, small_library, every_component, monkeypatch):
    path = small_library / file
    monkeypatch.chdir(path.parent)
    text = shown(path, every_component)
    assert str(small_library.parent) not in text, "a plan that another machine shows otherwise"
    recorded = (PLANS / file).with_suffix(".txt")
    if os.environ.get("RECORD"):
        recorded.parent.mkdir(parents=True, exist_ok=True)
        recorded.write_text(text, encoding="utf-8")
    assert recorded.is_file(), f"the plan of specs/{file} is not recorded; look at it after `{RECORD}`"
    expected = recorded.read_text(encoding="utf-8")
    assert text == expected, f"the plan of specs/{file} is another one; if it should be: `{RECORD}`"


def test_each_recorded_plan_has_its_spec():
    recorded = sorted(str(path.relative_to(PLANS).with_suffix(".yaml")) for path in PLANS.rglob("*.txt"))
    assert recorded == FILES, f"after `{RECORD}`, remove those whose spec is gone"
