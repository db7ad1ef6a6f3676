"""The complete spec of a run, with every default written out, says what the spec itself says.

Commands that take a run folder read it, so that one which is refused makes the run useless.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.planning.prepare import prepare
from kdspec.planning.resolved import resolved
from kdspec.source.extends import compose, load

ROOT = Path(__file__).parent.parent.parent
SPECS = ROOT / "specs"
FILES = sorted(str(path.relative_to(SPECS)) for path in SPECS.rglob("*.yaml") if "assets" not in path.parts)


def told(document, registry):
    made = prepare(document, registry)
    return made.plan, [(d.severity, d.code, d.message) for d in made.findings]


@pytest.mark.parametrize("file", FILES)
def test_every_default_can_be_written_out(file, small_library, every_component):
    plan, found = told(load(small_library / file, environ={}), every_component)
    text = resolved(plan)
    again, found_again = told(compose(text, "spec.yaml", (small_library / file).parent, (), {}), every_component)
    assert found_again == found
    assert resolved(again) == text
