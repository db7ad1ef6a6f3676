"""`kdspec validate`: formats, exit codes, folders, standard input, and --fix."""

from __future__ import annotations

import io
import json
import os
import stat

import pytest


def test_a_fine_spec_takes_one_line(kdspec, spec):
    spec()
    outcome = kdspec("validate", "spec.yaml")
    assert (outcome.code, outcome.out, outcome.err) == (0, "spec.yaml: fine\n", "")


def test_a_bad_spec_is_quoted_on_standard_output(kdspec, spec):
    spec("temperature: 4", "temprature: 4")
    outcome = kdspec("validate", "spec.yaml")
    assert outcome.code == 1
    assert (
        outcome.out
        == """\
error[KD101]: unknown key `temprature`
  --> spec.yaml:20:33
   |
20 |         soft_labels: {loss: kl, temprature: 4}
   |                                 ^^^^^^^^^^ not a key here
   |
   = help: did you mean `temperature`?

1 error in spec.yaml (1 fixable with --fix)
"""
    )
    assert outcome.err == ""


def test_a_warning_is_no_failure(kdspec, spec):
    spec("layers: uniform", "layers: uniform, weight: 0")
    outcome = kdspec("validate", "spec.yaml")
    assert outcome.code == 0
    assert outcome.out.endswith("1 warning in spec.yaml\n")


def test_the_plan_is_a_part_of_the_validation(kdspec, spec):
    spec("layers: uniform", "layers: {12: 2}")
    assert kdspec("validate", "spec.yaml", "--format", "concise").out.startswith("spec.yaml:22:")


def test_concise_is_a_line_a_diagnostic(kdspec, spec):
    spec("temperature: 4", "temprature: 4")
    outcome = kdspec("validate", "--format", "concise", "spec.yaml")
    assert outcome.out == "spec.yaml:20:33: KD101 unknown key `temprature`\n"


def test_json_is_one_list_for_all_specs(kdspec, spec):
    spec("temperature: 4", "temprature: 4")
    spec("loss: kl", "loss: kll", name="other.yaml")
    spec(name="fine.yaml")
    outcome = kdspec("validate", "--format=json", "spec.yaml", "other.yaml", "fine.yaml")
    found = json.loads(outcome.out)
    assert [(d["filename"], d["code"], d["location"]) for d in found] == [
        ("spec.yaml", "KD101", {"row": 20, "column": 33}),
        ("other.yaml", "KD201", {"row": 20, "column": 29}),
    ]
    assert outcome.code == 1


def test_json_of_a_fine_spec_is_an_empty_list(kdspec, spec):
    spec()
    assert json.loads(kdspec("validate", "--format=json", "spec.yaml").out) == []


def test_github_has_a_command_a_diagnostic_and_nothing_else(kdspec, spec):
    spec("temperature: 4", "temprature: 4")
    spec(name="fine.yaml")
    out = kdspec("validate", "--format", "github", "spec.yaml", "fine.yaml").out
    assert out.count("\n") == 1
    assert out.startswith("::error file=spec.yaml,line=20,endLine=20,col=33,endColumn=42,title=KD101::")


@pytest.mark.parametrize("name", ["gone.yaml", ".", "\0"])
def test_a_file_that_cannot_be_read_is_a_misuse(name, kdspec, spec):
    spec()
    outcome = kdspec("validate", name) if name != "." else kdspec("validate", "gone/", "spec.yaml")
    assert outcome.code == 2
    assert "KD003" in outcome.out


def test_standard_input_is_a_spec_too(kdspec, spec, monkeypatch):
    text = spec("temperature: 4", "temprature: 4").read_text()
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    outcome = kdspec("validate", "-")
    assert "--> <stdin>:20:33" in outcome.out
    assert outcome.out.endswith("1 error in <stdin>\n")


def test_set_changes_what_is_validated_and_is_quoted(kdspec, spec):
    spec()
    outcome = kdspec("validate", "spec.yaml", "--set", "stages.distil.training.epochs=ten")
    assert outcome.code == 1
    assert (
        "1 | stages.distil.training.epochs=ten\n  |                               ^^^ must be a number" in outcome.out
    )


def test_a_folder_is_searched_for_specs(kdspec, spec, tmp_path):
    spec(name="specs/a.yaml")
    spec("loss: kl", "loss: kll", name="specs/deep/b.yml")
    spec(name="specs/.hidden/c.yaml")
    spec(name="specs/notes.txt")
    (tmp_path / "specs" / "other.yaml").write_text("services: []\n")
    (tmp_path / "specs" / "broken.yaml").write_text("kdspec: 1\nname: [\n")
    outcome = kdspec("validate", "--format", "concise", "specs")
    lines = outcome.out.splitlines()
    assert lines[0] == "specs/a.yaml: fine"
    assert lines[1].startswith("specs/broken.yaml:")
    assert lines[2].startswith("specs/deep/b.yml:20:29: KD201")
    assert lines[3:] == ["2 of 3 specs have errors"]


def test_a_spec_in_a_folder_may_have_its_version_from_the_one_that_it_extends(kdspec, spec, tmp_path):
    spec(name="specs/base.yaml")
    (tmp_path / "specs" / "longer.yaml").write_text("# longer\nextends: base.yaml\nsed: 3\n")
    (tmp_path / "specs" / "longest.yml").write_text("name: longest\nextends:\n  - 'longer.yaml'\n")
    (tmp_path / "specs" / "self.yaml").write_text("extends: [self.yaml]\n")
    (tmp_path / "specs" / "linter.yaml").write_text("extends: [rules.yaml]\n")
    (tmp_path / "specs" / "rules.yaml").write_text("extends: strict\n")
    outcome = kdspec("validate", "--format", "concise", "specs")
    assert outcome.out.splitlines() == [
        "specs/base.yaml: fine",
        "specs/longer.yaml:3:1: KD101 unknown key `sed`",
        "specs/longer.yaml:3:1: KD101 unknown key `sed`",
        "2 of 3 specs have errors",
    ]


def test_a_folder_without_specs_is_a_misuse(kdspec, spec, tmp_path):
    spec()
    (tmp_path / "empty").mkdir()
    outcome = kdspec("validate", "empty")
    assert outcome.code == 2
    assert "no file in empty has the key `kdspec`" in outcome.err


def test_fix_changes_nothing_but_the_mistake(kdspec, spec):
    path = spec("temperature: 4", "temprature: 4  ")
    before = path.read_bytes().replace(b"name: tiny\n", b"name: tiny # caf\xc3\xa9 \t\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + before)
    path.chmod(0o640)
    outcome = kdspec("validate", "--fix", "spec.yaml")
    assert path.read_bytes() == b"\xef\xbb\xbf" + before.replace(b"temprature", b"temperature")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (outcome.code, outcome.out, outcome.err) == (0, "spec.yaml: fine\n", "fixed 1 in spec.yaml\n")
    assert [entry.name for entry in path.parent.iterdir()] == ["spec.yaml"]


def test_fix_also_corrects_errors_that_the_first_ones_had_hidden(kdspec, spec):
    path = spec("teacher: teacher\n        student", "teacher: techer\n        studnet")
    assert kdspec("validate", "--fix", "spec.yaml").code == 0
    assert "teacher: teacher\n        student: student" in path.read_text()


def test_fix_leaves_a_file_alone_that_was_not_given(kdspec, spec, tmp_path):
    base = spec("temperature: 4", "temprature: 4", name="base.yaml")
    before = base.read_bytes()
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nname: child\n")
    outcome = kdspec("validate", "--fix", "child.yaml")
    assert outcome.code == 1
    assert "--> base.yaml:20:33" in outcome.out
    assert base.read_bytes() == before


def test_fix_follows_a_link_and_keeps_it(kdspec, spec, tmp_path):
    target = spec("temperature: 4", "temprature: 4", name="real/spec.yaml")
    (tmp_path / "link.yaml").symlink_to(target)
    assert kdspec("validate", "--fix", "link.yaml").code == 0
    assert (tmp_path / "link.yaml").is_symlink()
    assert "temperature: 4" in target.read_text()


def test_fix_does_not_put_a_word_in_place_of_a_variable(kdspec, spec, monkeypatch):
    path = spec("loss: kl,", 'loss: "${LOSS}",')
    monkeypatch.setenv("LOSS", "kll")
    before = path.read_bytes()
    outcome = kdspec("validate", "--fix", "spec.yaml")
    assert outcome.code == 1
    assert path.read_bytes() == before
    assert "fixable" not in kdspec("validate", "spec.yaml").out


def test_fix_refuses_standard_input(kdspec):
    outcome = kdspec("validate", "--fix", "-")
    assert outcome.code == 2
    assert "standard input cannot be fixed" in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_fix_reports_a_folder_that_is_not_writable(kdspec, spec, tmp_path):
    spec("temperature: 4", "temprature: 4")
    tmp_path.chmod(0o500)
    outcome = kdspec("validate", "--fix", "spec.yaml")
    tmp_path.chmod(0o700)
    assert outcome.code == 2
    assert "KD508" in outcome.err
