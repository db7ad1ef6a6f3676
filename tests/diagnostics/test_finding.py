"""Findings as text, for logs and for Python programs that have no document to point into."""

from kdspec.diagnostics.finding import Finding, FindingError


def test_the_text_of_a_finding_begins_with_its_path_in_the_spec():
    finding = Finding("KD506", "schedule `x` raised ValueError: no", ("stages", "distil", "matches", 0))
    assert str(finding) == "stages.distil.matches.0: KD506 schedule `x` raised ValueError: no"


def test_a_finding_without_a_path_has_its_code_and_message_alone():
    assert str(Finding("KD514", "process 1 of 2 has failed")) == "KD514 process 1 of 2 has failed"


def test_an_error_has_a_line_for_each_finding():
    error = FindingError(Finding("KD514", "one"), Finding("KD513", "two", ("stages", "a")))
    assert str(error) == "KD514 one\nstages.a: KD513 two"
