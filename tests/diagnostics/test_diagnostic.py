"""What a diagnostic is, what may be suggested, and the table of codes."""

from __future__ import annotations

import re

import pytest

from kdspec.diagnostics.diagnostic import (
    CODES,
    Diagnostic,
    DiagnosticError,
    Label,
    Span,
    closest,
    did_you_mean,
    excerpt,
    near,
)

AT = Span("s.yaml", 2, 4, 2, 9)


def test_spans_are_ordered_by_file_and_then_by_place():
    spans = [Span("b", 0, 0, 0, 1), Span("a", 3, 0, 3, 1), Span("a", 2, 9, 2, 10), Span("a", 2, 1, 2, 2)]
    assert sorted(spans) == spans[::-1]


def test_a_diagnostic_prints_its_place_counted_from_one():
    assert str(Diagnostic("KD101", "unknown key `x`", Label(AT))) == "s.yaml:3:5: KD101 unknown key `x`"
    assert str(Diagnostic("KD003", "`x` is a folder")) == "KD003 `x` is a folder"


def test_equal_diagnostics_are_one_in_a_set():
    assert len({Diagnostic("KD101", "m", Label(AT)), Diagnostic("KD101", "m", Label(AT))}) == 1


def test_a_code_that_is_not_in_the_table_is_a_programmers_error():
    with pytest.raises(AssertionError, match="KD999"):
        Diagnostic("KD999", "no such code")


def test_a_plugin_has_codes_of_its_own():
    assert Diagnostic("kdspec-emd/no-cost", "no cost").code == "kdspec-emd/no-cost"


def test_an_error_carries_all_diagnostics_and_the_texts_that_were_read():
    found = Diagnostic("KD001", "a"), Diagnostic("KD002", "b")
    error = DiagnosticError(*found, texts={"s.yaml": "a: 1"})
    assert error.diagnostics == found
    assert error.texts == {"s.yaml": "a: 1"}
    assert str(error) == "KD001 a\nKD002 b"


def test_an_error_without_a_diagnostic_is_a_programmers_error():
    with pytest.raises(AssertionError):
        DiagnosticError()


@pytest.mark.parametrize(
    ("word", "candidates", "expected"),
    [
        ("temprature", ["temperature", "weight"], "temperature"),
        ("KL", ["ce", "kl"], "kl"),
        ("hidden-mse", ["hidden_mse", "hidden-msee"], "hidden_mse"),
        ("Hidden_MSE", ["hidden_msx", "hidden-mse"], "hidden-mse"),
        ("k1", ["kl", "ce"], None),
        ("zzz", ["kl", "ce"], None),
        ("kl", [], None),
        ("", ["kl"], None),
    ],
)
def test_closest_suggests_one_name_or_none(word, candidates, expected):
    assert closest(word, iter(candidates)) == expected


@pytest.mark.parametrize(
    ("word", "candidates", "expected"),
    [
        ("adamv", ["adam", "adamw", "sgd"], ("adam", "adamw")),  # a letter too many, or a wrong one
        ("temprature", ["temperature", "weight"], ("temperature",)),
        ("lable", ["label", "table_"], ("label",)),  # two letters swapped are one slip
        ("tran", ["train", "trap"], ("train", "trap")),
        ("sentence_3", ["sentence_1", "sentence_2", "label"], ("sentence_1", "sentence_2")),
        ("KL", ["kl", "kll"], ("kl",)),
        ("SENTENSE", ["sentence", "label"], ("sentence",)),  # case does not count beside a slip
        ("review body", ["Review_Body", "review"], ("Review_Body",)),
        ("label", ["Label", "LABEL", "labels"], ("LABEL", "Label")),
        ("zzz", ["kl"], ()),
    ],
)
def test_near_names_are_one_or_two_that_are_as_likely(word, candidates, expected):
    found = near(word, iter(candidates))
    assert sorted(found) == sorted(expected)
    assert (did_you_mean(found) is None) == (not expected)


def test_help_of_two_near_names_names_both():
    assert did_you_mean(("adam", "adamw")) == "did you mean `adam` or `adamw`?"


def test_an_excerpt_is_one_short_printable_line():
    assert excerpt("a\nb\x1b[31m") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m"
    assert excerpt("x" * 60) == "x" * 60
    assert excerpt("x" * 61) == "x" * 59 + "…"


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.code)
class TestEachCode:
    def test_has_a_title_in_the_form_of_messages(self, code):
        assert code.title
        assert code.title == code.title.strip()
        assert not code.title.endswith(".")

    def test_has_a_text_of_one_to_three_sentences(self, code):
        assert re.search(r"[.)]$", code.text)
        assert 1 <= len(re.findall(r"[.](?= [A-Z`]|$)", code.text)) <= 4

    def test_is_listed_under_its_number(self, code):
        assert CODES[code.code] is code
        assert re.fullmatch(r"KD[0-7]\d\d", code.code)


def test_the_table_is_in_order_and_cannot_be_changed():
    assert list(CODES) == sorted(CODES)
    with pytest.raises(TypeError):
        CODES["KD999"] = None
