"""A plan in a file: it is run as it is, wherever it lies, and no other way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kdspec.cli import main
from kdspec.planning.difference import PlanChange, difference
from kdspec.testing import tiny

TINY = Path(__file__).parent.parent / "data" / "tiny"
FINE = (Path(__file__).parent.parent / "diagnostics" / "fine.yaml").read_text(encoding="utf-8")


@pytest.fixture
def planned(tmp_path, monkeypatch, capsys):
    """A spec in a folder of its own, its plan in another one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, tmp_path / "data" / "tiny")
    (tmp_path / "specs").mkdir()
    (tmp_path / "plans").mkdir()
    (tmp_path / "specs" / "spec.yaml").write_text(FINE)
    assert main(["plan", "--static", "specs/spec.yaml", "-o", "plans/plan.json"]) == 0
    capsys.readouterr()
    return tmp_path / "plans" / "plan.json"


def test_a_plan_is_as_good_as_its_spec(planned, capsys):
    assert main(["validate", "plans/plan.json"]) == 0
    assert capsys.readouterr().out == "plans/plan.json: fine\n"
    assert main(["plan", "--static", "plans/plan.json", "--against", "specs/spec.yaml"]) == 0
    assert capsys.readouterr().out == "the plans are the same\n"


def test_its_paths_hold_wherever_it_is_read(planned, monkeypatch):
    monkeypatch.chdir("/")
    assert main(["validate", str(planned)]) == 0


def test_a_plan_that_was_changed_is_refused(planned, capsys):
    planned.write_text(planned.read_text().replace("epochs: 1.0", "epochs: 9.0"))
    assert main(["run", str(planned)]) == 2
    assert "was edited: its digest does not match" in capsys.readouterr().err


def test_a_plan_that_would_run_otherwise_is_refused(planned, capsys):
    config = planned.parent.parent / "data" / "tiny" / "teacher" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 64', '"hidden_size": 32'))
    assert main(["run", str(planned)]) == 1
    told = capsys.readouterr().err
    assert "KD509" in told
    assert "`models.teacher.facts.width` was 64 and is 32 now" in told


def test_a_plan_is_run_as_it_is(planned, capsys):
    assert main(["run", str(planned), "--set", "seed=3"]) == 2
    assert "cannot change a saved plan" in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_ends_in_the_same_student_as_its_spec(planned, capsys):
    tiny(planned.parent.parent / "data" / "tiny" / "teacher", layers=6)
    epochs = ["--set", "stages.distil.training.epochs=0.5"]
    assert main(["plan", "specs/spec.yaml", *epochs, "-o", "plans/plan.json"]) == 0
    assert main(["run", "specs/spec.yaml", *epochs, "--output", "spec", "--device", "cpu"]) == 0
    assert main(["run", "plans/plan.json", "--output", "plan", "--device", "cpu"]) == 0
    capsys.readouterr()
    folders = [planned.parent.parent / name / "tiny" for name in ("spec", "plan")]
    for file in ("student/model.safetensors", "table.json", "identity.json"):
        first, second = ((folder / file).read_bytes() for folder in folders)
        assert first == second, file


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kdspec_plan": 99}'])
def test_what_is_no_plan_is_refused(text, planned, capsys):
    planned.write_text(text)
    assert main(["run", str(planned)]) == 2
    assert "KD003" in capsys.readouterr().err


def test_a_plan_that_cannot_be_written_is_reported(planned, capsys):
    assert main(["plan", "--static", "specs/spec.yaml", "-o", "gone/plan.json"]) == 2
    assert "KD508" in capsys.readouterr().err


def test_the_difference_of_two_plans_is_one_line_a_setting(planned, capsys):
    other = FINE.replace("epochs: 1", "epochs: 2").replace("loss: kl", "loss: mse")
    Path("specs/other.yaml").write_text(other)
    assert main(["plan", "--static", "specs/other.yaml", "--against", "specs/spec.yaml"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["stages.distil.terms.soft_labels.settings.loss", "kl", "→", "mse"],
        ["stages.distil.training.epochs", "1.0", "→", "2.0"],
    ]
    assert main(["plan", "--static", "--json", "specs/other.yaml", "--against", "specs/spec.yaml"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[1] == {"path": "stages.distil.training.epochs", "old": "1.0", "new": "2.0"}


def test_the_other_spec_must_be_right_too(planned, capsys):
    Path("specs/other.yaml").write_text(FINE.replace("loss: kl", "loss: kll"))
    assert main(["plan", "--static", "specs/spec.yaml", "--against", "specs/other.yaml"]) == 1
    assert "KD201" in capsys.readouterr().err


def test_what_only_one_plan_has_is_one_change():
    old = {"stages": [{"name": "a", "epochs": {"value": 1, "origin": "written"}, "student": "s"}]}
    new = {"stages": [*old["stages"], {"name": "b", "epochs": {"value": 1, "origin": "default"}, "student": "s"}]}
    assert difference(old, new) == [PlanChange("stages.b", "nothing", "there")]
    assert difference(new, old) == [PlanChange("stages.b", "there", "nothing")]


def test_who_decided_on_a_value_makes_no_difference():
    assert not difference({"a": {"value": 1, "origin": "written"}}, {"a": {"value": 1, "origin": "default"}})
