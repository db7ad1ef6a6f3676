"""The complete spec of a run, with every default written out, says what the spec itself says.

Commands that take a run folder read it, so that one which is refused makes the run useless.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.planning.prepare import prepare
from kdspec.planning.resolved import resolved
from kdspec.registry.registry import load_registry
from kdspec.source.extends import compose, load

ROOT = Path(__file__).parent.parent.parent
SPECS = ROOT / "specs"
FILES = sorted(str(path.relative_to(SPECS)) for path in SPECS.rglob("*.yaml") if "assets" not in path.parts)
LABELS = {
    "sequence_classification": ("basics/soft_labels.yaml", "label=null", "labels=[plain, sarcastic]"),
    "multi_label": ("basics/several_labels.yaml", "label=null", "labels=[person, place]"),
    "regression": ("basics/scores.yaml", "label=null"),
    "question_answering": ("basics/questions.yaml", "answers=null"),
    "token_classification": ("basics/tagging.yaml", "tags=null", "labels=[O, B-PER, I-PER]"),
}


@pytest.fixture(scope="module")
def components():
    packages = [file.parent for file in ROOT.glob("plugins/*/pyproject.toml")]
    with pytest.MonkeyPatch.context() as patch:
        for package in packages:
            patch.syspath_prepend(package)
        yield load_registry(*(__import__(package.name.replace("-", "_")) for package in packages), installed=False)


def told(document, components):
    made = prepare(document, components)
    return made.plan, [(d.severity, d.code, d.message) for d in made.findings]


@pytest.mark.parametrize("file", FILES)
def test_every_default_can_be_written_out(file, small_library, components):
    plan, found = told(load(small_library / file, environ={}), components)
    text = resolved(plan)
    again, found_again = told(compose(text, "spec.yaml", (small_library / file).parent, (), {}), components)
    assert found_again == found
    assert resolved(again) == text
