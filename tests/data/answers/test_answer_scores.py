"""How answers are compared with those of people."""
# ruff: noqa: RUF001 - they are the signs of Chinese texts

from __future__ import annotations

import pytest

from kdspec.data.answers.answer_scores import score

CMRC = [
    ("NBA's球员", "NBA球员", 0.5714285714285715),
    ("a…b见", "a见", 0.5),
    ("3.5℃天", "3.5天", 0.5),
    ("１９９８年", "1998年", 0.5),
    ("50%的人", "50的人", 0.5714285714285715),
    ("x∶y", "x", 0.0),
    ("'90s音乐", "90s音乐", 0.8571428571428571),
    ("U.S.的", "U.S的", 0.4),
    ("AT&T公司", "T公司", 0.7499999999999999),
    ("C++语言", "C语言", 1.0),
    ("No. 3 a. smith说", "smith说", 0.5),
    ("don't吃", "don吃", 0.4),
    ("（A）天", "A天", 1.0),
    ("1,000元", "000元", 0.5),
    ('"ok"吗?', "ok吗", 0.28571428571428575),
    ("end. next天", "next天", 0.6666666666666666),
    ("cannot看", "not看", 0.8),
]


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
        ("", ["the"], 1, 0),
        ("the", ["a"], 1, 0),
        ("the", ["the Oslo"], 0, 0),
    ],
)
def test_english_by_words(said, answers, exact, f1):
    """As SQuAD 1.1's own evaluation, also where nothing is left of an answer."""
    assert score(said, answers, "en") == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("said", "answers", "same"),
    [
        ("", [], 1),
        ("Oslo", [], 0),
        ("the", [], 1),
        ("!", [], 1),
        ("", ["the"], 1),
        ("the", ["an", "."], 1),
        ("Oslo", ["the"], 0),
        ("", ["the", "Oslo"], 0),
        ("the", ["Oslo"], 0),
        ("Oslo", ["the", "Oslo"], 1),
    ],
)
def test_answers_of_which_nothing_is_left_are_none_where_questions_may_have_none(said, answers, same):
    """As SQuAD 2.0's own evaluation: such a reference answer is dropped, and without any the answer is none."""
    assert score(said, answers, "en", unanswerable=True) == (same, same)


@pytest.mark.parametrize(("said", "answer", "f1"), CMRC)
def test_chinese_beside_latin_text_is_as_cmrcs_evaluation_has_it(said, answer, f1):
    """Values of CMRC 2018's own script, with `word_tokenize` of NLTK."""
    assert score(said, [answer], "zh")[1] == pytest.approx(f1)


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
