"""Files in the form of SQuAD."""

from __future__ import annotations

import json

import pytest

from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.builtins.datasets.squad import Squad
from kdspec.diagnostics.fault import Fault

ANSWER = {"text": "Oslo", "answer_start": 7}


@pytest.fixture
def read(tmp_path):
    """The rows of `train` in a file with these questions on one text, or with this as the whole."""

    def rows(*questions, whole=None):
        paragraph = {"context": "It was Oslo.", "qas": list(questions)}
        given = {"version": "1", "data": [{"title": "Towns", "paragraphs": [paragraph]}]} if whole is None else whole
        (tmp_path / "train.json").write_text(json.dumps(given))
        return Squad(train=["train.json"]).build(DatasetContext(folder=tmp_path))["train"].to_list()

    return rows


def test_each_question_is_a_row(read):
    first = {"id": "a", "question": "What?", "answers": [ANSWER, ANSWER]}
    second = {"id": 7, "question": "Who?", "answers": [], "is_impossible": True, "plausible_answers": [ANSWER]}
    rows = read(first, second, {"id": "c", "question": "Why?"})
    assert [row["id"] for row in rows] == ["a", "7", "c"]
    assert {(row["title"], row["context"]) for row in rows} == {("Towns", "It was Oslo.")}
    assert rows[0]["answers"] == {"text": ["Oslo", "Oslo"], "answer_start": [7, 7]}
    assert rows[1]["answers"] == {"text": [], "answer_start": []}
    assert rows[2]["answers"] is None


def test_the_columns_are_known_without_the_file():
    names = Squad(train=["none.json"]).column_names(BuildContext())
    assert set(names["train"]) == {"id", "title", "context", "question", "answers"}


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ([], "the file has no key `data`"),
        ({"data": {}}, "`data` is not a list"),
        ({"data": []}, "the file has no questions"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "`data[0].paragraphs[0]` has no key `context`"),
        ({"data": [{"paragraphs": [{"context": 1, "qas": []}]}]}, "`data[0].paragraphs[0].context` is not a string"),
        (
            {
                "data": [
                    {"paragraphs": [{"context": "", "qas": [{"id": 1, "question": "", "answers": [{"text": ""}]}]}]}
                ]
            },
            "`data[0].paragraphs[0].qas[0].answers[0]` has no key `answer_start`",
        ),
    ],
)
def test_a_file_of_another_form(whole, message, read):
    with pytest.raises(Fault) as caught:
        read(whole=whole)
    assert (caught.value.code, caught.value.at) == ("KD502", ("train", 0))
    assert caught.value.message == f"train.json: {message}"


def test_an_answer_begins_at_a_whole_number(read):
    with pytest.raises(Fault, match="answer_start` is not an integer"):
        read({"id": "a", "question": "", "answers": [{"text": "Oslo", "answer_start": "7"}]})
