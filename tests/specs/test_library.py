"""The specs that users begin from: each is valid, is in the list, and runs from end to end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdspec.engine.run.session import Session
from kdspec.planning.prepare import prepare
from kdspec.source.extends import load

ROOT = Path(__file__).parent.parent.parent
SPECS = ROOT / "specs"
FILES = sorted(str(path.relative_to(SPECS)) for path in SPECS.rglob("*.yaml") if "assets" not in path.parts)

# The published table: its data and models are on the hub, so that it is checked and planned, and not run.
FROM_THE_HUB = [file for file in FILES if file.startswith("textbrewer/")]
# Those that `test_tasks.py` runs.
OF_TASKS = [file for file in FILES if file.startswith(("tasks/", "embeddings/")) or file == "basics/masked_lm.yaml"]
# The models of `specs/assets` take ten times as long as small ones; `test_tasks.py` runs each task with them too.
WITH_REAL_MODELS = ("quickstart.yaml", "students/bigru.yaml")


def planned(file, registry, steps=None):
    document = load(file, environ={})
    if steps is not None:
        sets = [
            f"stages.{stage}.training.{value}"
            for stage in document.data["stages"]
            for value in ("epochs=null", f"steps={steps}", "batch_size=8")
        ]
        document = load(file, sets, environ={})
    made = prepare(document, registry)
    assert (made.findings, made.misshapen) == ((), ())
    return made.plan


@pytest.mark.parametrize("file", FILES)
def test_a_spec_of_the_library_is_valid_without_a_warning(file, library, every_component):
    assert planned(library / file, every_component).source.data["kdspec"] == 1


@pytest.mark.parametrize("file", FILES)
def test_a_spec_of_the_library_has_a_comment_on_what_it_shows(file):
    assert re.match(r"# [A-Z].{20,}", (SPECS / file).read_text(encoding="utf-8"))


def test_the_list_names_each_spec_once():
    listed = re.findall(r"^\| \[(.+?)\]\(\1\) \|", (SPECS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == FILES


def test_names_of_runs_differ():
    names = [load(SPECS / file, environ={}).data["name"] for file in FILES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("file", FROM_THE_HUB)
def test_a_spec_of_the_published_table_knows_its_models_without_the_hub(file, library, every_component):
    made = planned(library / file, every_component)
    of_transformers = [facts for facts in made.facts.values() if facts.family]
    assert all(facts.layers and facts.width and facts.heads for facts in of_transformers)
    widths = {match.projection_origin for stage in made.stages for match in stage.matches}
    assert "unknown" not in widths


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in FILES if file not in (*FROM_THE_HUB, *OF_TASKS)])
def test_a_spec_of_the_library_runs(file, library, small_library, every_component, tmp_path):
    made = planned((library if file in WITH_REAL_MODELS else small_library) / file, every_component, steps=2)
    result = Session(made, every_component, output=tmp_path / "runs", device="cpu").run()
    assert [stage.step for stage in result.stages] == [2] * len(made.stages)
    assert any(result.student.rglob("config.json"))  # of several tasks in a folder for each
    assert {row.role for row in result.table} & {"student", "baseline", "trained"}
