"""Recorded probabilities: their logarithms, and what are none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from recorded_rows import read

from kdspec.diagnostics.fault import Fault

ANY = ("ham", "spam", "news")


@pytest.mark.parametrize(
    "cell",
    [
        [0.2, 0.8],
        {"spam": 0.8, "ham": 0.2},
        {"SPAM ": 0.8, "Ham": 0.2},
        "[0.2, 0.8]",
        "[0.2 0.8]",
        '{"spam": "0.8", "ham": 0.2}',
    ],
)
def test_each_form_gives_the_logarithms(cell):
    found, told = read([cell])
    assert found == [[math.log(0.2), math.log(0.8)]]
    assert told == []


def test_a_column_for_each_class():
    found, _ = read({"spam": [0.8, None, "1"], "ham": ["0.2", "", 0]})
    assert found[0] == [math.log(0.2), math.log(0.8)]
    assert found[1] is None
    assert found[2] == [math.log(1.1754943508222875e-38), 0.0]


@pytest.mark.parametrize("missing", [None, "", " ", "null"])
def test_a_row_may_lack_an_answer(missing):
    assert read([missing, [0.5, 0.5]])[0] == [None, [math.log(0.5)] * 2]


def test_a_softmax_at_any_temperature_is_that_of_the_probabilities():
    drawn = np.random.default_rng(0)
    least = np.finfo(np.float32).tiny
    for case in range(200):
        p = drawn.dirichlet([0.05 if case % 2 else 1.0] * 3)
        p[case % 3] *= case % 5 != 0  # some are 0
        p /= p.sum()
        t = float(drawn.uniform(0.5, 8))
        (logits,), _ = read([json.dumps(p.tolist())], classes=ANY)
        assert np.isfinite(np.float32(logits)).all()
        powers = np.maximum(p, least) ** (1 / t)
        z = np.array(logits) / t
        made = np.exp(z - z.max())
        assert made / made.sum() == pytest.approx(powers / powers.sum(), rel=1e-9)


def test_names_are_mapped_and_merged():
    found, told = read([{"junk": 0.3, "ads": 0.3, "Ham": 0.4}], labels={"junk": "spam", "ads": "SPAM"})
    assert found[0] == pytest.approx([math.log(0.4), math.log(0.6)])
    assert told == []
    of_lists, _ = read([[0.3, 0.4, 0.3]], labels={"junk": "spam", "mail": "ham", "ads": "spam"})
    assert of_lists == found


def test_labels_that_are_independent_have_logits_of_their_own():
    found, _ = read([[0.2, 0.9], [0, 1]], logits="labels")
    assert found[0] == pytest.approx([math.log(0.2 / 0.8), math.log(0.9 / 0.1)])
    assert found[1] == pytest.approx([-87.33654, 87.33654])


def test_words_have_answers_of_their_own():
    found, _ = read([[[0.2, 0.8], None], None, "[[1, 0]]"], words=[2, 1, 1])
    assert found[0][0] == [math.log(0.2), math.log(0.8)]
    assert found[0][1] is None
    assert found[1] is None
    assert found[2][0][0] == 0.0
    by_column, _ = read({"ham": [[0.2, None], None], "spam": [[0.8, None], None]}, words=[2, 1])
    assert by_column == [found[0], None]


def test_sums_near_one_are_divided_and_counted():
    found, told = read([[0.5, 0.5], [0.5, 0.51], [0.495, 0.495], [0.5, 0.5005]])
    assert found[1] == pytest.approx([math.log(50 / 101), math.log(51 / 101)])
    assert sum(map(math.exp, found[3])) == pytest.approx(1)
    assert [(severity, message) for severity, message, _ in told] == [
        ("note", "the probabilities of 2 of 4 rows of `train` in `judge` sum to 0.99 to 1.01")
    ]
    assert "the first is row 2" in told[0][2]


@pytest.mark.parametrize(
    ("cell", "message", "help_"),
    [
        ([0.3, 0.4], "has probabilities in `judge` that sum to 0.7, not to 1", "write `top_k`"),
        ([20, 80], "has 20 for `ham` in `judge`, and a probability is at most 1", "looks like percent: divide by 100"),
        ([0.5, 1.5], "has 1.5 for `spam` in `judge`, and a probability is at most 1", "name logits in `logits`"),
        ([-0.2, 1.2], "has -0.2 for `ham` in `judge`: a probability is not negative", "named in `logits`"),
        ([math.nan, 0.5], "has NaN for `ham` in `judge`, not a probability", "null in place of the whole answer"),
        ("[NaN, 0.5]", "has NaN for `ham` in `judge`, not a probability", "null in place of the whole answer"),
        ([math.inf, 0.5], "has Inf for `ham` in `judge`, not a probability", "null"),
        ({"ham": "much", "spam": 0.5}, "has `much` for `ham` in `judge`, not a probability", "write a number"),
        ([0.2, 0.3, 0.5], "has 3 values in `judge`, and task `mail` has 2 classes", "in the order `ham`, `spam`"),
        ([1.0], "has 1 value in `judge`, and task `mail` has 2 classes", "one for each"),
        ({"ham": 1.0}, "has no value for `spam` in `judge`", "each class needs one"),
        ({"ham": 0.4, "hamm": 0.6}, "has the class `hamm` in `judge`, which is not among those of task `mail`", "did you mean `ham`?"),
        ("spam", "has `spam` in `judge`, which is not JSON", "write a list"),
        ("{'ham': 0.4, 'spam': 0.6}", "which is not JSON: expecting property name", "JSON has double quotes"),
        (0.7, "has `0.7` in `judge`, not a list of numbers or a mapping of classes", "`ham`, `spam`"),
        (True, "has `True` in `judge`, not a list", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_row(cell, message, help_):
    with pytest.raises(Fault) as caught:
        read([[0.5, 0.5]] * 811 + [cell])
    assert caught.value.message.startswith("row 812 of `train` has ")
    assert message in caught.value.message
    assert help_ in caught.value.help
    assert "rows are counted from 1" in caught.value.help
    assert caught.value.at == ("probabilities",)


@pytest.mark.parametrize(
    ("columns", "message", "at"),
    [
        ({"ham": [0.5, 0.2], "spam": [0.5, None]}, "row 2 of `train` has no value in `spam`, and one in `ham`", "spam"),
        (
            {"ham": [0.5, "x"], "spam": [0.5, 1]},
            "row 2 of `train` has `x` for `ham` in `ham`, not a probability",
            "ham",
        ),
        ({"ham": [0.5, 50], "spam": [0.5, 50]}, "row 2 of `train` has 50 for `ham` in `ham`", "ham"),
        ({"ham": [0.5], "junk": [0.5]}, "row 1 of `train` has the class `junk` in `junk`", "junk"),
    ],
)
def test_the_column_of_a_class_is_named(columns, message, at):
    with pytest.raises(Fault) as caught:
        read(columns)
    assert message in caught.value.message
    assert caught.value.at == ("probabilities", at)


def test_percent_of_independent_labels():
    with pytest.raises(Fault, match="has 20 for `ham`") as caught:
        read([[20, 90]], logits="labels")
    assert "divide by 100" in caught.value.help


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([[0.2, 0.8]], "row 1 of `train` has 1 answers in `judge`, and 2 words"),
        ({"ham": 1}, "row 1 of `train` has a dict in `judge`, not a list with an answer for each word"),
        ([[0.2, 0.8], [0.2, 0.2]], "word 2 in row 1 of `train` has probabilities in `judge` that sum to 0.4"),
    ],
)
def test_words_are_named(cell, message):
    with pytest.raises(Fault, match=message.replace("`", ".")):
        read([cell], words=[2])
