"""Names of classes in recorded answers."""

from __future__ import annotations

import pytest
from recorded_rows import read

from kdspec.data.answers.recorded.answer_classes import class_names
from kdspec.diagnostics.fault import Fault

OURS = ("ham", "spam", "A-", "a-")


def test_the_same_names_but_for_case_blanks_and_dashes():
    found = class_names(OURS, ["HAM", "S_pam", "A-", "a-"], {}, "mail")
    assert found.of == {"HAM": 0, "S_pam": 1, "A-": 2, "a-": 3}
    assert found.merged(["HAM", "S_pam"]) is None
    assert found.lacking({0, 2}) == ["spam", "a-"]


def test_spellings_of_one_class_are_this_class():
    found = class_names(OURS, ["ham", "Ham", "spam", "A", "other"], {"Junk": "Spam"}, "mail")
    assert found.of == {"Junk": 1, "ham": 0, "Ham": 0, "spam": 1}
    assert found.merged(["Junk", "other", "spam"]) == ("Junk", "spam")


def test_keys_of_the_mapping_are_matched_too():
    assert class_names(OURS, ["JUNK", "Fine mail"], {"junk": "spam", "fine_mail": "ham"}, "mail").of == {
        "junk": 1, "fine_mail": 0, "JUNK": 1, "Fine mail": 0,
    }  # fmt: skip
    _, told = read([{"OK": 0.5, "JUNK": 0.5}], labels={"junk": "spam", "ok": "ham"})
    assert told == []


def test_classes_that_are_not_known_are_theirs():
    assert class_names((), ["a", "b"], {"c": "b"}, "mail").ours == ("b", "a")


def test_a_mapping_to_no_class_is_an_error_at_its_place():
    with pytest.raises(Fault, match="`labels` has `spm` for `junk`, which is not a class of task `mail`") as caught:
        class_names(OURS, ["junk"], {"junk": "spm"}, "mail")
    assert caught.value.at == ("labels", "junk")
    assert caught.value.help == "did you mean `spam`?"
    assert caught.value.notes == ("task `mail`: `ham`, `spam`, `A-`, `a-`",)


def test_an_unknown_name_says_what_to_write():
    with pytest.raises(Fault) as caught:
        read([{"ham": 0.5, "junk": 0.5}])
    assert caught.value.help.startswith("write `labels: {junk: spam}` in the model")
    assert caught.value.notes == ("recorded: `ham`, `junk`", "task `mail`: `ham`, `spam`")
    assert caught.value.code == "KD403"


def test_a_name_in_the_mapping_that_no_row_has_is_told():
    _, told = read([{"ham": 0.5, "spam": 0.5}], labels={"junk": "spam"})
    assert told[0][1] == "no row of `train` has `junk`, which `labels` names"
