"""Columns are guessed from names and values: texts are long and varied, labels repeat, and pairs have names that go together."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.cli.guess_columns import guess, separator

ROWS = 60


def texts(seed=0, least=5, most=20):
    draw = random.Random(seed)
    words = [
        "the",
        "printer",
        "fails",
        "again",
        "and",
        "nobody",
        "knows",
        "why",
        "please",
        "help",
        "me",
        "with",
        "this",
    ]
    return [" ".join(draw.choice(words) for _ in range(draw.randint(least, most))) for _ in range(ROWS)]


def classes(*names, seed=1):
    draw = random.Random(seed)
    return [draw.choice(names) for _ in range(ROWS)]


IDS = [str(1000 + number) for number in range(ROWS)]
DATES = [f"2024-01-{number % 28 + 1:02}" for number in range(ROWS)]
UUIDS = [str(uuid.UUID(int=number)) for number in range(ROWS)]
NUMBERS = [f"{number / 7:.2f}" for number in range(ROWS)]


@pytest.mark.parametrize(
    ("rows", "text", "label", "task"),
    [
        ({"ticket_id": IDS, "body": texts(), "queue": classes("billing", "tech", "sales")}, ("body",), "queue", "sequence_classification"),
        ({"label": classes("0", "1"), "sentence": texts()}, ("sentence",), "label", "sequence_classification"),
        (
            {"date": DATES, "subject": texts(2, 2, 4), "message": texts(3), "agent": classes("ann", "bob", "cy", "di"), "category": classes("a", "b")},
            ("message",), "category", "sequence_classification",
        ),
        ({"uuid": UUIDS, "comment": texts(), "sentiment": classes("good", "bad")}, ("comment",), "sentiment", "sequence_classification"),
        ({"premise": texts(), "hypothesis": texts(5), "label": classes("0", "1", "2")}, ("premise", "hypothesis"), "label", "sequence_classification"),
        ({"": IDS, "Text": texts(), "y": classes("1", "0")}, ("Text",), "y", "sequence_classification"),
        ({"id": IDS, "review": texts(), "score": NUMBERS}, ("review",), "score", "regression"),
        ({"text": texts(), "genres": classes("a;b", "b", "c;a", "a", "b;c", "a;b;c")}, ("text",), "genres", "multi_label"),
        ({"text": texts(), "labels": [["a"], ["a", "b"]] * (ROWS // 2)}, ("text",), "labels", "multi_label"),
        ({"text": texts()}, ("text",), None, "masked_lm"),
        ({"tokens": [["a", "b"]], "ner_tags": [["O", "O"]]}, ("tokens",), "ner_tags", "token_classification"),
        ({"question": texts(), "context": texts(), "answers": [{}] * ROWS}, (), None, "question_answering"),
        ({"标题": ["打印机又坏了没有人知道为什么"] * 9 + ["账单金额与上个月不同请核对一下"] * 9, "类别": ["技术", "账单"] * 9}, ("标题",), "类别", "sequence_classification"),
    ],
)  # fmt: skip
def test_columns_and_task_are_those_that_a_person_would_choose(rows, text, label, task):
    found = guess(rows)
    assert (found.text, found.label, found.task) == (text, label, task)


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [(("ticket_id", "body", "queue"), ("body",), "queue"), (("premise", "hypothesis", "label"), ("premise", "hypothesis"), "label")],
)  # fmt: skip
def test_without_rows_names_decide(names, text, label):
    found = guess(dict.fromkeys(names, ()))
    assert (found.text, found.label) == (text, label)


@given(st.permutations(["id", "when", "body", "team"]), st.integers(0, 99))
def test_the_order_of_the_columns_does_not_matter(order, seed):
    rows = {"id": IDS, "when": DATES, "body": texts(seed), "team": classes("x", "y", "z", seed=seed)}
    found = guess({name: rows[name] for name in order})
    assert (found.text, found.label) == (("body",), "team")


@given(
    st.dictionaries(
        st.text(max_size=9), st.lists(st.none() | st.text(max_size=30) | st.integers(), max_size=9), max_size=5
    )
)
def test_any_table_has_a_guess_among_its_columns(rows):
    found = guess(rows)
    assert set(found.text) <= rows.keys()
    assert found.label is None or found.label in rows
    assert found.label not in found.text


def test_what_was_seen_is_said():
    found = guess({"body": texts(), "queue": classes("billing", "tech")})
    assert any("`body`" in reason for reason in found.reasons)
    assert any("`queue`, 2 different" in reason and "`tech`" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("values", "mark"), [(["a;b", "c"], ";"), (["a|b"], "|"), (["a, b"], ","), (["a", "b"], None), ([["a"]], None)]
)
def test_what_stands_between_labels_is_found(values, mark):
    assert separator(values) == mark
