"""How answers are compared with those of people."""

from __future__ import annotations

import pytest

from kdspec.data.answers.answer_scores import score


@pytest.mark.parametrize(
    ("said", "answers", "exact", "f1"),
    [
        ("Oslo", ["Oslo"], 1, 1),
        ("the Oslo!", ["oslo"], 1, 1),
        ("in Oslo", ["Oslo"], 0, 2 / 3),
        ("Bergen", ["Oslo"], 0, 0),
        ("Oslo", ["in Oslo", "Oslo fjord town"], 0, 2 / 3),
        ("a town", ["the town"], 1, 1),
        ("x x y", ["x y y"], 0, 2 / 3),
        ("", ["Oslo"], 0, 0),
        ("", ["the"], 1, 1),
        ("", [], 1, 1),
        ("Oslo", [], 0, 0),
    ],
)
def test_english_by_words(said, answers, exact, f1):
    assert score(said, answers, "en") == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("said", "answers", "exact", "f1"),
    [
        ("北京", ["北京"], 1, 1),
        ("《北京》。", ["北京"], 1, 1),
        ("在北京", ["北京"], 0, 4 / 5),
        ("北在京", ["北京"], 0, 2 / 5),
        ("上海", ["北京"], 0, 0),
        ("1998年", ["1998年"], 1, 1),
        ("1998年", ["98年"], 0, 1 / 2),
        ("the end 天", ["end 天"], 0, 4 / 5),
        ("天安门", ["北京", "天安门广场"], 0, 6 / 8),
    ],
)
def test_chinese_by_characters(said, answers, exact, f1):
    assert score(said, answers, "zh") == pytest.approx((exact, f1))
