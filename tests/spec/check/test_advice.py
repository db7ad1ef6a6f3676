"""What the errors of values advise: each advice is followed, and the spec is then fine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdspec.cli import main
from kdspec.testing import check

FOLDER = Path(__file__).parents[2] / "diagnostics"
FINE = (FOLDER / "fine.yaml").read_text(encoding="utf-8")
GENERAL, TRAINING = "stages.distil.distiller.general", "stages.distil.training"


def errors(*sets: str, text: str = FINE):
    return check(text, folder=FOLDER, sets=sets).errors


def only(*sets: str, text: str = FINE):
    (error,) = errors(*sets, text=text)
    return error


@pytest.mark.parametrize(
    ("path", "value", "written"),
    [
        (f"{GENERAL}.hard_labels", "0.2", "{weight: 0.2}"),
        (f"{GENERAL}.hard_labels", "linear_decay", '{weight: "linear_decay"}'),
        (f"{TRAINING}.early_stopping", "3", "{patience: 3}"),
        (f"{TRAINING}.optimizer.adamw", "0.001", "{lr: 0.001}"),
        (f"{TRAINING}.lr_schedule.linear", "0.1", "{warmup: 0.1}"),
        (f"{GENERAL}.soft_labels", "kl", '{loss: "kl"}'),
    ],
)
def test_a_value_in_the_place_of_a_mapping_is_written_into_it(path, value, written):
    error = only(f"{path}={value}")
    assert error.message.startswith("expected a mapping")
    assert error.help == f"write `{written}`"
    assert errors(f"{path}={written}") == ()


@pytest.mark.parametrize(("seen", "share"), [("15%", "0.15"), ("7.5 %", "0.075"), ("50%", "0.5")])
def test_a_share_in_per_cent_is_a_number(seen, share):
    data = "tasks.reviews.sequence_classification.data.csv.validation"
    error = only(f"{data}={seen}")
    assert error.help == f"a share of the rows of `train` is a number: write `{share}`"
    assert [each.code for each in errors(f"{data}={share}")] in (
        [],
        ["KD502"],
    )  # no row, of a handful, is another matter


@pytest.mark.parametrize("place", ["validation=0%", "validation=100%", "train=15%"])
def test_no_share_is_proposed_where_none_helps(place):
    error = only(f"tasks.reviews.sequence_classification.data.csv.{place}")
    assert "share" not in (error.help or "")


def test_a_missing_file_hides_no_unknown_name():
    found = errors(
        "tasks.reviews.sequence_classification.data.csv.train=none.csv",
        "models.student.transformers.like=techer",
        f"{GENERAL}.student=studnt",
    )
    assert [error.code for error in found] == ["KD310", "KD204", "KD204"] or {e.code for e in found} == {
        "KD310",
        "KD204",
    }
    assert {error.help for error in found if error.code == "KD204"} == {
        "did you mean `teacher`?",
        "did you mean `student`?",
    }


def test_a_value_that_no_field_takes_gets_no_advice():
    assert only(f"{TRAINING}.early_stopping=soon").help is None


@pytest.mark.parametrize("value", ["one", "schnell"])
def test_a_word_in_the_place_of_a_number_needs_no_package(value):
    error = only(f"{GENERAL}.hard_labels={{weight: {value}}}")
    assert error.message == f"expected a number or a schedule, not the string `{value}`"
    assert error.help is None
    assert "`linear_decay`" in " ".join(error.notes)


@pytest.mark.parametrize(("seen", "pairs"), [("[6, 2]", "{6: 2}"), ("[[6, 2], [3, 1]]", "{6: 2, 3: 1}")])
def test_layers_in_a_list_are_pairs(seen, pairs):
    error = only(f"{GENERAL}.matches[0].layers={seen}")
    assert error.help == f"a pair is written `teacher: student`: `{pairs}`"
    assert errors(f"{GENERAL}.matches[0].layers={pairs}") == ()


@pytest.mark.parametrize("value", ["'||'", "''", "'\"'"])
def test_a_delimiter_is_described_in_words(value):
    error = only(f"tasks.reviews.sequence_classification.data.csv.delimiter={value}")
    assert error.message.startswith("a delimiter is one character")
    assert error.code == "KD104"


def test_a_configuration_of_changes_beside_a_path_says_what_it_is():
    error = only("models.teacher.transformers.config={num_hidden_layers: 2}")
    assert error.code == "KD107"
    assert "has its `model_type`" in error.help


# --set


def test_an_index_in_brackets_is_that_of_a_list():
    text = FINE
    changed = check(text, folder=FOLDER, sets=[f"{GENERAL}.matches[0].weight=2"])
    assert changed.errors == ()
    assert changed.plan.stages[0].matches[0].weight.value == 2


@pytest.mark.parametrize("argument", ["a[0]b=1", "a[x]=1", "[0]=1"])
def test_other_brackets_are_part_of_a_key(argument):
    assert check("kdspec: 1", sets=[argument]).errors


def test_a_misspelt_stage_of_set_gets_its_near_name():
    error = only(f"{TRAINING.replace('distil', 'distill')}.epochs=3")
    assert error.code == "KD102"
    assert error.help == "did you mean `distil`? `distill` is new here"


def test_a_misspelt_key_of_set_is_replaced_not_removed():
    error = only(f"{TRAINING}.epoch=3")
    assert error.help == "did you mean `epochs`?"
    assert errors(f"{TRAINING}.epochs=3") == ()


def test_steps_beside_epochs_come_by_taking_these_back():
    error = only(f"{TRAINING}.steps=10")
    (back,) = re.findall(r"--set (\S+?)`", error.help)
    assert errors(f"{TRAINING}.steps=10", back) == ()


# Files


def test_a_file_of_a_similar_name_is_suggested_and_not_put_in(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets-val.csv").write_text("sentence,label\nx,y\n")
    text = FINE.replace("../data/tiny/teacher", str(FOLDER.parent / "data/tiny/teacher"))
    text = re.sub(r"train: \S*reviews.csv", "train: ticket-val.csv", text)
    (tmp_path / "spec.yaml").write_text(text)
    assert main(["validate", "--fix", "spec.yaml"]) == 1
    assert "did you mean `tickets-val.csv`?" in capsys.readouterr().out
    assert (tmp_path / "spec.yaml").read_text() == text
