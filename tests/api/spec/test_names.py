"""Names of any script, which are names of files too."""

from __future__ import annotations

import string
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.api.spec.names import COMPOSED, RESERVED, RULE, rule_against
from kdspec.testing import check

SPEC = (Path(__file__).parents[2] / "diagnostics" / "fine.yaml").read_text(encoding="utf-8")
FOLDER = Path(__file__).parents[2] / "diagnostics"


@pytest.mark.parametrize(
    "name",
    ["тест", "学生", "生徒モデル", "학생", "φοιτητής", "तेस्ट", "تجربة", "étudiant", "x", "_x", "2026-11.v2", "学" * 66],
)
def test_names_of_any_script_are_names(name):
    assert rule_against(name) is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "-x", ".hidden", "a/b", "a\\b", "a b", "a\nb", "a\0b", "a\u200bb", "a:b", "a*b", "学\u3000生", "x" * 101,
     "学" * 67, "\u0301x", "🎓"],
)  # fmt: skip
def test_what_a_file_cannot_be_called_is_no_name(name):
    assert rule_against(name) == RULE


@pytest.mark.parametrize("name", ["con", "NUL.txt", "a..b", "COM1"])
def test_reserved_names_are_no_names(name):
    assert rule_against(name) == RESERVED


@given(st.text(max_size=120))
def test_a_name_is_composed_short_and_a_part_of_a_path(name):
    if rule_against(name) is None:
        assert unicodedata.normalize("NFC", name) == name
        assert 0 < len(name.encode()) <= 200
        assert Path("runs", name).parts == ("runs", name)
        assert not set(name) & set('/\\:*?"<>| \t\n\0')


@given(st.text(alphabet=string.ascii_letters + string.digits + "_", min_size=1, max_size=100))
def test_plain_names_are_still_names(name):
    assert rule_against(name) in (None, RESERVED)


def test_decomposed_names_are_refused_with_their_composed_form():
    decomposed = unicodedata.normalize("NFD", "café")
    assert rule_against(decomposed) == COMPOSED
    (error,) = check(SPEC.replace("name: tiny", f"name: {decomposed}"), folder=FOLDER).errors
    assert (error.code, error.edit.text) == ("KD308", "café")


@pytest.mark.parametrize("other", ["Teacher", "TEACHER"])
def test_two_names_that_differ_in_case_only_are_one_on_some_systems(other):
    text = SPEC.replace(
        "  student:\n", f"  {other}:\n    transformers: {{path: ../data/tiny/teacher}}\n  student:\n", 1
    )
    (error,) = check(text, folder=FOLDER).errors
    assert error.code == "KD308"
    assert error.message == f"`teacher` and `{other}` are one name where case is ignored"
    assert error.primary.span.line == error.secondary[0].span.line + 2


def test_a_misspelt_name_is_corrected_in_its_script():
    text = SPEC.replace("teacher:\n    trans", "учитель:\n    trans").replace("like: teacher", "like: учител")
    text = text.replace("teacher: teacher", "teacher: учитель")
    (error,) = check(text, folder=FOLDER).errors
    assert error.edit.text == "учитель"
