"""The parameters of a model that answers prompts."""

from __future__ import annotations

import pytest

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.llm_reader import LlmReader
from kdspec.diagnostics.fault import Fault

LISTED = "{text}\n{options}\nAnswer:"


def made(prompt=LISTED, **given):
    return LlmReader(path="./lm", prompt=prompt, **given)


def context(*classes, folder="."):
    from pathlib import Path

    return ModelContext(
        folder=Path(folder), head=Head("sequence_classification", classes), heads={"topics": Head(labels=classes)}
    )


def faults(model, folder="."):
    return [(fault.code, fault.message) for fault in model.wrong_question(context(folder=folder))]


def test_the_options_are_by_default_the_names_of_the_classes():
    question = made().question(context("sport", "politics"), chat=False)
    assert question.texts == ("sport", "politics")
    assert question.orders == ((1, 0), (0, 1))


def test_options_are_found_by_the_names_of_their_classes_however_spelt():
    options = {"World News": "w", "sport": "s"}
    question = made(options=options, permute=False).question(context("sport", "world_news"), chat=False)
    assert question.texts == ("s", "w")
    assert question.orders == ((1, 0),)  # as the spec names them


def test_an_answer_keeps_the_blank_that_is_written():
    question = made("{text}", options={"a": " yes", "b": "no"}).question(context("a", "b"), chat=False)
    assert question.texts == (" yes", "no")
    assert question.orders == ((0, 1),)


def test_a_prompt_is_read_from_a_file(tmp_path):
    (tmp_path / "ask.txt").write_text("Gehört {text}\n{options}\n", encoding="utf-8")
    assert made("ask.txt").template(context(folder=tmp_path)).texts[0] == "Gehört "
    assert made("ask.txt").prompt_file(context(folder=tmp_path)) == tmp_path / "ask.txt"
    assert made("ask\n.txt {text}").prompt_file(context()) is None


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "ask.txt").write_bytes(b"\xff{text}")
    assert faults(made("ask.txt"), tmp_path) == [("KD003", "`ask.txt` cannot be read as UTF-8 text")]


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        (made("{text} Answer:"), "KD104", "`prompt` has no `{options}`, and no `options` say what the answers are"),
        (made("Answer: {options}"), "KD104", "`prompt` names no column of the rows"),
        (made("{text"), "KD104", "line 1 of the prompt has a single `{`"),
        (made(options={"a": "x", "b": " x "}), "KD104", "`a` and `b` have the same option `x`"),
        (made(options={"a": "x", "b": " "}), "KD104", "the option of `b` has no text"),
        (
            made("{text}", options={"a": "sport", "b": " sports"}),
            "KD104",
            "the answer `sport` begins the answer `sports`",
        ),
        (made("{text}", options={"a": "x", "b": "y"}, permute=True), "KD305", "`permute` has no effect"),
    ],
)
def test_a_wrong_question_is_told(model, code, message):
    ((found, text),) = faults(model)
    assert found == code
    assert text.startswith(message)


def test_a_right_question_is_not():
    assert faults(made()) == []
    assert faults(made(options={"a": "sport", "b": "sports"})) == []  # the answers are letters
    assert faults(made("{text}", options={"a": "x", "b": "y"})) == []


def test_classes_that_the_rows_have_are_compared_when_they_are_known():
    with pytest.raises(Fault, match="`options` has none for `c` of task `topics`") as caught:
        made(options={"a": "x", "b": "y"}).question(context("a", "b", "c"), chat=False)
    assert caught.value.code == "KD102"
    with pytest.raises(Fault, match="`spotr` is not a class of task `topics`") as caught:
        made(options={"a": "x", "spotr": "y"}).question(context("a", "sport"), chat=False)
    assert caught.value.fix == ("spotr", "sport")


def test_a_list_has_as_many_letters_as_there_are():
    classes = [f"c{number}" for number in range(27)]
    with pytest.raises(Fault, match="task `topics` has 27 classes, and a list of options has 26 letters"):
        made().question(context(*classes), chat=False)
    assert len(made("{text}", options={c: c for c in classes}).question(context(*classes), chat=False).texts) == 27


def test_what_tokens_depend_on_is_in_the_checksum():
    base = {"prompt": LISTED, "options": {"a": "x", "b": "y"}}
    changes = [
        {},
        {"prompt": "Is it? " + LISTED},
        {"options": {"b": "y", "a": "x"}},
        {"permute": False},
        {"chat": False},
    ]
    assert len({made(**{**base, **change}).asked(context("a", "b")) for change in changes}) == len(changes)
    assert made(**base).asked(context("a", "b")) != made(**base).asked(context("b", "a"))
    assert made(**base).asked(context("a", "b")) == made(**base, prior="contextual").asked(context("a", "b"))
