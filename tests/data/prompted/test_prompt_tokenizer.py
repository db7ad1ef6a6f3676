"""Rows as trees of prompts, and the tokens of their answers."""

from __future__ import annotations

import pytest
from tiny_families import tokenizer
from tiny_readers import CHAT, TEXTS, VOCABULARY, pieces

from kdspec.data.prompted.prompt_tokenizer import NOWHERE, PromptTokenizer
from kdspec.data.prompted.question import ClassQuestion, orders
from kdspec.data.prompted.template import Template
from kdspec.diagnostics.fault import Fault

CLASSES = ("x", "y", "z")
LISTED = Template.parse("w1 {text} w2 {options} w3")


@pytest.fixture
def words(tmp_path):
    return tokenizer(tmp_path / "words", ends=True, begins=True, words=VOCABULARY)


def asked(template=LISTED, texts=("w5", "w6 w7", "w8"), *, chat=False):
    return ClassQuestion(template, CLASSES, texts, orders(CLASSES, CLASSES, permute=template.lists_options), chat)


def paths(row):
    """The tokens before each token of an answer, with it."""
    for token, place in zip(row["answer_ids"], row["answers_at"], strict=True):
        before = [n for n in range(place + 1) if place < row["ends"][n]]
        yield [*(row["input_ids"][n] for n in before), token] if place != NOWHERE else None


def test_a_row_has_each_prompt_with_its_answers_in_the_order_of_the_classes(words):
    question = asked()
    (row,) = PromptTokenizer(words, question, None).rows({"text": ["w10 w11"]}, None)
    expected = []
    for order in question.orders:
        prompt = question.prompt({"text": "w10 w11"}, order)
        expected += [f"<s> {' '.join(prompt.split())} {letter}" for letter in question.answers(order)]
    assert [" ".join(words.convert_ids_to_tokens(path)) for path in paths(row)] == expected


def test_tokens_that_prompts_have_in_common_stand_once(words):
    (row,) = PromptTokenizer(words, asked(), None).rows({"text": ["w10 w11"]}, None)
    tokens = words.convert_ids_to_tokens(row["input_ids"])
    assert tokens[:6] == ["<s>", "w1", "w10", "w11", "w2", "A."]
    assert tokens.count("w10") == 1


def test_rows_are_padded_behind_in_a_batch(words):
    made = PromptTokenizer(words, asked(), None)
    rows = made.rows({"text": TEXTS}, None)
    batch = made.collate(rows)
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        assert batch["input_ids"][number, :length].tolist() == row["input_ids"]
        assert batch["attention_mask"][number].tolist() == [1] * length + [0] * (batch["ends"].shape[1] - length)
        assert not batch["ends"][number, length:].any()
        assert batch["answers_at"][number].tolist() == row["answers_at"]


def test_an_answer_has_as_many_tokens_as_tell_it_from_the_others(words):
    question = asked(Template.parse("w1 {text} w2"), ("w5 w6 w9", "w5 w7", "w8 w9"))
    (row,) = PromptTokenizer(words, question, None).rows({"text": ["w10"]}, None)
    found = [path and " ".join(words.convert_ids_to_tokens(path)) for path in paths(row)]
    before = "<s> w1 w10 w2"
    assert found == [f"{before} w5", f"{before} w5", f"{before} w8", f"{before} w5 w6", f"{before} w5 w7", None]


def test_of_answers_that_all_begin_alike_only_what_differs_is_scored(words):
    question = asked(Template.parse("w1 {text} w2"), ("w5 w6", "w5 w7", "w5 w8"))
    (row,) = PromptTokenizer(words, question, None).rows({"text": ["w10"]}, None)
    found = [" ".join(words.convert_ids_to_tokens(path)) for path in paths(row)]
    assert found == [f"<s> w1 w10 w2 w5 {word}" for word in ("w6", "w7", "w8")]


@pytest.mark.parametrize("prompt", ["the {text} is", "the {text} is ", "answer: {text}:"])
def test_merges_at_the_boundary_are_those_of_the_whole_text(tmp_path, prompt):
    made = pieces(tmp_path)
    question = ClassQuestion(Template.parse(prompt), ("s", "p"), ("sport", "politics"), ((0, 1),))
    encoder = PromptTokenizer(made, question, None)
    (row,) = encoder.rows({"text": ["page"]}, None)
    for path, answer in zip(paths(row), ("sport", "politics"), strict=False):
        whole = made(f"{prompt.strip().replace('{text}', 'page')} {answer}", add_special_tokens=False)["input_ids"]
        assert path == whole[: len(path)]


def test_the_text_is_cut_and_never_the_prompt(words):
    made = PromptTokenizer(words, asked(), None)
    (row,) = made.rows({"text": ["w10 w11 w12 w13 w14"]}, 3)
    assert row == made.rows({"text": ["w10 w11 w12"]}, None)[0]


def test_of_two_texts_the_longer_one_is_cut(words):
    template = Template.parse("{a} w1 {b} w2 {options} w3")
    made = PromptTokenizer(words, asked(template), None)
    cut = made.rows({"a": ["w10 w11 w12 w13 w14 w15"], "b": ["w20 w21"]}, 5)
    assert cut == made.rows({"a": ["w10 w11 w12"], "b": ["w20 w21"]}, None)


def test_a_prompt_fits_the_positions_of_the_model(words):
    made = PromptTokenizer(words, asked(), 64)
    (row,) = made.rows({"text": [" ".join(["w10"] * 200)]}, None)
    longest = max(len(path) for path in paths(row))
    assert 40 < longest <= 64


def test_a_chat_template_is_around_the_prompt(words):
    words.chat_template = CHAT
    (row,) = PromptTokenizer(words, asked(chat=True), None).rows({"text": ["w10"]}, None)
    tokens = words.convert_ids_to_tokens(next(paths(row)))
    assert tokens[:3] == ["w30", "w1", "w10"]  # the template writes what a text begins with
    assert tokens[-4:] == ["w3", "w31", "w32", "A"]


def test_rows_without_content_have_no_text(words):
    made = PromptTokenizer(words, asked(), None)
    assert made.content_free() == made.rows({"text": ["N/A", "[MASK]", ""]}, None)


def test_answers_of_which_one_begins_another_to_the_tokenizer_are_refused(words):
    with pytest.raises(Fault, match="the answer 'unknown' begins the answer 'foreign w5'") as caught:
        PromptTokenizer(words, asked(Template.parse("w1 {text}"), ("unknown", "foreign w5", "w6")), None)
    assert caught.value.at == ("options",)


@pytest.mark.parametrize(
    "template", [LISTED, Template.parse("w1 w2 w9 {options} w3 {text} w4"), Template.parse("{text} w3")]
)
@pytest.mark.parametrize("longest", [1, 7])
def test_the_tokens_of_a_row_are_those_that_a_batch_reads_for_each(words, template, longest):
    prompts = PromptTokenizer(words, asked(template), None)
    one, two = (
        {tuple(path[:end]) for path in paths(row) for end in range(1, len(path))}
        for row in prompts.rows({"text": [" ".join([word] * longest) for word in ("w10", "w11")]}, None)
    )
    orders_ = 1 if not template.lists_options else len(asked(template).orders)
    assert prompts.row_tokens(longest) >= len(one - two) >= orders_ * longest
