"""The sections of a report on errors: confusions, scores by class, scatters, and rows that differ from the teacher's."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from kdspec.engine.evaluation.result_row import DifferingRow, RowErrors
from kdspec.report.differences import difference_sections
from kdspec.report.errors import error_sections

ROW = {"model": "student", "role": "student", "task": "reviews", "split": "test"}
EVIL = "<script>alert(1)</script>"


def row(errors=None, **fields):
    return ROW | {"errors": errors} | fields


def errors(**fields):
    return asdict(RowErrors(**fields))


TWO = errors(
    names=["bad", "good"], matrix=[[8, 2], [0, 0]],
    classes=[["bad", 1.0, 0.8, 0.888889, 10, 0.95], ["good", 0.0, None, 0.0, 0, None]],
)  # fmt: skip


def test_a_matrix_has_labels_counts_and_shares():
    titles, pages = zip(*error_sections([row(TWO)]), strict=True)
    assert titles == ("Confusion matrix", "Scores by class")
    assert re.findall(r'<td class="(\w+ s\d)" title="([^"]*)">(\d+)</td>', pages[0]) == [
        ("right s7", "80.0 % of bad predicted as bad: 8", "8"), ("wrong s2", "20.0 % of bad predicted as good: 2", "2"),
        ("wrong s0", "good predicted as bad: 0", "0"), ("right s0", "good predicted as good: 0", "0"),
    ]  # fmt: skip
    assert "Of the test rows. A row is the label" in pages[0]


def test_a_score_that_is_not_defined_is_a_dash_with_an_explanation():
    (_, html) = list(error_sections([row(TWO)]))[1]
    assert re.findall(r'<td class="number">([\d.,-]+)', html)[5:] == ["0.000", "-", "0.000", "-", "0"]
    assert "-: not defined" in html
    assert "--share:89%" in html


def test_large_counts_are_short_in_their_cells():
    names = ["a", "b", "c", "d"]
    counts = [9_999, 10_499, 999_499, 1_250_000]
    (_, html) = next(error_sections([row(errors(names=names, matrix=[counts, *[[0] * 4] * 3]))]))
    assert re.findall(r">([^<>]+)</td>", html)[:5] == ["9,999", "10k", "999k", "1.2M", "2.3M"]
    assert "predicted as b: 10,499" in html


def test_matrices_of_words_and_of_a_teacher_say_so():
    ((_, html),) = error_sections([row(errors(names=["a"], matrix=[[1]], unit="words", against="teacher"))])
    assert "Of the test words. A row is the teacher&#x27;s class" in html


def test_scores_of_entities_are_named_so():
    ((_, html),) = error_sections([row(errors(classes=[["PER", 1.0, 1.0, 1.0, 3, None]], entities=True))])
    assert ">entity type<" in html
    assert "teacher F1" not in html


def test_many_classes_have_a_list_of_pairs():
    ((title, html),) = error_sections([row(errors(confused=[["a", "b", 1200]]))])
    assert title == "Most confused classes"
    assert re.findall(r"<td[^>]*>(.*?)</td>", html) == ["a", "b", "1,200"]


def test_classes_that_are_not_listed_are_counted():
    ((_, html),) = error_sections([row(errors(classes=[["a", 1.0, 1.0, 1.0, 3, None]], unlisted=1234))])
    assert "1,234 more are not listed" in html


def test_the_student_is_open_and_the_teacher_closed():
    teacher = row(TWO, model="big", role="teacher")
    (_, html) = next(error_sections([teacher, row(TWO)]))
    assert re.findall(r"<h3>(.*?)</h3>|<summary>(.*?)</summary>", html) == [
        ("student", ""), ("", "big <small>teacher</small>"),
    ]  # fmt: skip


def test_tasks_have_sections_of_their_own():
    titles = [title for title, _ in error_sections([row(TWO), row(TWO, task="topics")])]
    assert titles == [
        "Confusion matrix: reviews", "Scores by class: reviews", "Confusion matrix: topics", "Scores by class: topics",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "points", [[[1.0, 2.0]], [[0.0, 0.0], [1e-9, 5.0]], [[-3.0, 7.0], [1.0, 7.0]], [[-9e299, 0.0], [9e299, 5e-324]]]
)
def test_any_numbers_are_within_the_scatter(points):
    ((title, html),) = error_sections([row(errors(points=[["stars", points]]))])
    assert title == "Predicted and true"
    for x, y in re.findall(r"M([\d.-]+),([\d.-]+)h0", html):
        assert 0 <= float(x) <= 360
        assert 0 <= float(y) <= 200


def test_a_column_without_numbers_has_no_scatter():
    assert list(error_sections([row(errors(points=[["stars", []]]))])) == []


def differing(*answers, texts=(), row=17, about="", right=(), **fields):
    found = DifferingRow(row, list(texts), list(answers), about, list(right))
    return errors(compared=9, differing=[found], **{"differ": 1} | fields)


def test_a_row_that_differs_has_its_text_and_three_answers():
    found = differing(["", "bad", "good", 0.9, "bad", 0.99999], texts=[[["a text", False]]])
    ((title, html),) = difference_sections([row(found)])
    assert title == "Where student and teacher differ"
    assert "On 1 of 9 test rows" in html
    assert "looking at test rows" in html
    assert "row 17" in html
    assert re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", html) == [
        ("label", "bad"),
        ("student", '<span class="no" title="wrong">✗</span> good <small>90.0 %</small>'),
        ("teacher", '<span class="yes" title="right">✓</span> bad <small>99.9 %</small>'),
    ]


def test_without_a_label_nobody_is_right():
    ((_, html),) = difference_sections([row(differing(["", None, "good", 0.9, "bad", 1.0]), split="validation")])
    assert "✓" not in html
    assert "label</dt>" not in html
    assert "looking at" not in html
    assert "100 %" in html


def test_numbers_are_not_right_or_wrong():
    ((_, html),) = difference_sections([row(differing(["stars", "1", "2", None, "1", None], differ=None))])
    assert "✗" not in html
    assert "largest differences" in html
    assert "<b>stars</b>" in html


def test_a_row_may_have_scores_several_right_answers_and_something_to_add():
    found = differing(
        ["", "b / c", "c", 12.3456, "d", None], texts=[[["a query", False]]], about="rho 0.5", right=[[True, False]],
        counted="queries", answer="first passage", order="The farthest come first.", number="score",
    )  # fmt: skip
    ((_, html),) = difference_sections([row(found)])
    assert "On 1 of 9 test queries the first passage of student differs from that of its teacher. The farthest" in html
    assert "confident" not in html
    assert "<small>row 17 · rho 0.5</small>" in html
    assert re.findall(r"<dd>(.*?)</dd>", html) == [
        "b / c", '<span class="yes" title="right">✓</span> c <small>12.35</small>',
        '<span class="no" title="wrong">✗</span> d',
    ]  # fmt: skip


def test_what_is_no_row_has_no_number():
    ((_, html),) = difference_sections([row(differing(["", None, "0.1", None, "0.9", None], row=None, about="sts"))])
    assert "<small>sts</small>" in html


def test_numbers_may_be_of_pairs():
    found = differing(["", "5", "0.1", None, "0.9", None], differ=None, counted="pairs")
    ((_, html),) = difference_sections([row(found)])
    assert "The largest differences between student and its teacher, of 9 test pairs." in html
    assert "✗" not in html


def test_marked_words_are_marked():
    ((_, html),) = difference_sections([row(differing(texts=[[["in ", False], ["Paris", True]]]))])
    assert "in <mark>Paris</mark>" in html


def test_a_run_without_errors_has_no_sections():
    rows = [ROW, row(None), row(errors())]
    assert list(error_sections(rows)) == list(difference_sections(rows)) == []


def test_titles_differ_where_there_are_several():
    found = differing(["", None, "a", 0.9, "b", 1.0])
    rows = [row(found), row(found, task="topics"), row(found, model="other")]
    assert [title for title, _ in difference_sections(rows)] == [
        f"Where student and teacher differ: {rest}"
        for rest in ("student, reviews", "student, topics", "other, reviews")
    ]


def test_whatever_rows_and_classes_hold_is_escaped():
    found = differing(
        [EVIL, EVIL, EVIL, 0.9, EVIL, 1.0], texts=[[[EVIL, True], [EVIL, False]]], names=[EVIL, EVIL],
        matrix=[[1, 2], [3, 4]], classes=[[EVIL, 1.0, 1.0, 1.0, 1, 1.0]], confused=[[EVIL, EVIL, 1]],
        points=[[EVIL, [[1.0, 1.0]]]], about=EVIL, counted=EVIL, answer=EVIL, order=EVIL,
    )  # fmt: skip
    hostile = [row(found, model=EVIL, task=EVIL, split=EVIL), row({**found, "matrix": []}, model=EVIL, task="x")]
    html = "".join(part for sections in (error_sections, difference_sections) for _, part in sections(hostile))
    assert "<script" not in html
    assert html.count("alert(1)") > 20
