"""The answers of a language model as logits of classes, against one prompt after another."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from tiny_families import tokenizer
from tiny_readers import TEXTS, VOCABULARY, causal

from kdspec.data.prompted.prompt_tokenizer import CONTENT_FREE, PromptTokenizer
from kdspec.data.prompted.question import ClassQuestion, joined, orders
from kdspec.data.prompted.template import Template
from kdspec.hf.prompted.answer_reader import TREES, AnswerReader, Answers
from kdspec.networks.module_digest import module_digest

CLASSES = ("x", "y", "z")
LISTED = Template.parse("w1 {text} w2 {options} w3")
NOT_LISTED = Template.parse("w1 {text} w2")
ALIKE = ("w5 w6", "w5 w7", "w8 w9")
MANY = tuple(f"c{number}" for number in range(6))


@pytest.fixture
def words(tmp_path):
    return tokenizer(tmp_path, ends=False, begins=True, words=VOCABULARY)


def asked(template=LISTED, texts=("w5", "w6 w7", "w8"), classes=CLASSES, **given):
    return ClassQuestion(
        template, classes, texts, given.get("orders") or orders(classes, classes, permute=template.lists_options)
    )


def reader(model, words, question, *, prior=False):
    encoder = PromptTokenizer(words, question, None)
    free = encoder.collate(encoder.content_free()) if prior else None
    return AnswerReader(model, Answers(len(question.classes), len(question.orders), free, question.digest)), encoder


def answered(model, words, question, texts=tuple(TEXTS), *, prior=False):
    made, encoder = reader(model, words, question, prior=prior)
    with torch.no_grad():
        return made(**encoder.collate(encoder.rows({"text": list(texts)}, None)))["logits"]


def one_by_one(model, words, question, text):
    """`(orders, classes)`, the log-probabilities of the options, each order and each answer on its own, in float64."""
    found = []
    for order in question.orders:
        whole = [
            words(joined(question.prompt({"text": text}, order), answer))["input_ids"]
            for answer in question.answers(order)
        ]
        scores = []
        for number, ids in enumerate(whole):
            others = [each for place, each in enumerate(whole) if place != number]
            end = next(end for end in range(1, len(ids) + 1) if all(each[:end] != ids[:end] for each in others))
            start = next(place for place in range(len(ids)) if len({each[place] for each in whole}) > 1)
            with torch.no_grad():
                log_p = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            scores.append(sum(log_p[place - 1, ids[place]].item() for place in range(start, end)))
        found.append(torch.tensor(scores).log_softmax(-1))
    return torch.stack(found)


@pytest.mark.parametrize(
    "question", [asked(), asked(NOT_LISTED, ALIKE), asked(NOT_LISTED)], ids=["listed", "alike", "texts"]
)
@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_class_has_the_probability_of_its_answer(words, question, family):
    model = causal(family)
    found = answered(model, words, question)
    expected = torch.stack([one_by_one(model, words, question, text).mean(0).log_softmax(-1) for text in TEXTS])
    torch.testing.assert_close(found, expected.float(), atol=2e-5, rtol=0)
    assert found.exp().sum(-1).sub(1).abs().max() < 1e-6
    assert (found.max(0).values - found.min(0).values).min() > 1e-3, "rows must differ for this to show anything"


def test_the_prior_is_the_mean_answer_to_texts_without_content(words):
    model, question = causal(), asked()
    free = torch.stack([one_by_one(model, words, question, text) for text in CONTENT_FREE]).exp().mean(0).log().mean(0)
    expected = torch.stack(
        [(one_by_one(model, words, question, text).mean(0) - free).log_softmax(-1) for text in TEXTS]
    )
    torch.testing.assert_close(answered(model, words, question, prior=True), expected.float(), atol=2e-5, rtol=0)


def test_a_text_without_content_alone_has_equal_probabilities_behind_its_prior(words):
    template = Template.parse("w1 {text} w2")
    model, question = causal(), asked(template)
    encoder = PromptTokenizer(words, question, None)
    free = encoder.collate(encoder.rows({"text": ["w9"]}, None))
    made = AnswerReader(model, Answers(3, len(question.orders), free))
    with torch.no_grad():
        found = made(**free)["logits"]
    torch.testing.assert_close(found, torch.full((1, 3), -math.log(3)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", sorted(TREES))
def test_a_tree_of_prompts_is_read_as_each_prompt_alone(words, family):
    changes = {"sliding_window": None} if family == "mistral" else {}
    model, question = causal(family, **changes), asked()
    made, encoder = reader(model, words, question)
    assert made.as_tree
    batch = encoder.collate(encoder.rows({"text": TEXTS}, None))
    with torch.no_grad():
        together = made(**batch)["logits"]
        made.as_tree = False
        torch.testing.assert_close(together, made(**batch)["logits"], atol=2e-6, rtol=0)
    model.set_attn_implementation("eager")
    made.as_tree = True
    with torch.no_grad():
        torch.testing.assert_close(together, made(**batch)["logits"], atol=2e-6, rtol=0)


def test_a_family_with_a_window_reads_each_prompt_alone():
    assert not AnswerReader(causal("mistral", sliding_window=4), Answers(2, 1)).as_tree
    assert not AnswerReader(causal("bloom"), Answers(2, 1)).as_tree


def test_a_row_alone_has_the_answer_that_it_has_in_a_batch(words):
    model = causal()
    together = answered(model, words, asked())
    alone = torch.cat([answered(model, words, asked(), [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_averaged_over_all_orders_the_first_one_does_not_matter(words, order):
    """By symmetry: the same orders, counted from another one."""
    model = causal()
    others = tuple(tuple(order[place] for place in each) for each in permutations(range(3)))
    difference = answered(model, words, asked()) - answered(model, words, asked(orders=others))
    assert difference.abs().max() < 1e-6


@pytest.mark.parametrize("shift", [1, 4])
def test_averaged_over_shifts_the_first_one_does_not_matter(words, shift):
    model, texts = causal(), tuple(f"w{number}" for number in range(40, 46))
    first = asked(classes=MANY, texts=texts)
    other = asked(classes=MANY, texts=texts, orders=first.orders[shift:] + first.orders[:shift])
    assert len(first.orders) == 6
    assert (answered(model, words, first) - answered(model, words, other)).abs().max() < 1e-6


def test_a_single_order_prefers_some_places(words):
    model = causal()
    one, other = (answered(model, words, asked(orders=(order,))) for order in ((0, 1, 2), (2, 1, 0)))
    assert (one - other).abs().max() > 1e-3


def test_no_gradient_is_needed_and_the_answers_are_float32(words):
    made, encoder = reader(causal().bfloat16(), words, asked())
    with torch.no_grad():
        found = made(**encoder.collate(encoder.rows({"text": TEXTS}, None)))["logits"]
    assert found.dtype == torch.float32
    expected = answered(causal(), words, asked())
    assert (found - expected).abs().max() < 0.2


def test_what_the_answers_depend_on_is_in_the_checksum(words):
    model = causal()
    made = [reader(model, words, question, prior=prior)[0] for question, prior in (
        (asked(), False), (asked(), True), (asked(texts=("w5", "w6", "w8")), False), (asked(orders=((0, 1, 2),)), False),
    )]  # fmt: skip
    digests = {module_digest(each) for each in made}
    assert len(digests) == 4
    with torch.no_grad():
        encoder = PromptTokenizer(words, asked(), None)
        made[1](**encoder.collate(encoder.rows({"text": TEXTS}, None)))
    assert module_digest(made[1]) in digests, "the prior is kept after the first batch, and is no part of the model"
