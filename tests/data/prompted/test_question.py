"""What a language model is asked, in which orders of the options."""

from __future__ import annotations

from itertools import permutations

import pytest

from kdspec.data.prompted.question import ClassQuestion, joined, orders
from kdspec.data.prompted.template import Template


def test_the_options_are_listed_with_letters_in_each_order():
    asked = ClassQuestion(Template.parse("{text}\n{options}\n?"), ("x", "y"), ("an x", "a y"), ((0, 1), (1, 0)))
    assert asked.prompt({"text": "t"}, (0, 1)) == "t\nA. an x\nB. a y\n?"
    assert asked.prompt({"text": "t"}, (1, 0)) == "t\nA. a y\nB. an x\n?"
    assert asked.answers((0, 1)) == ["A", "B"]
    assert asked.answers((1, 0)) == ["B", "A"]


def test_without_a_list_the_answers_are_the_texts():
    asked = ClassQuestion(Template.parse("{text}?"), ("x", "y"), ("an x", "a y"), ((0, 1),))
    assert asked.prompt({"text": "t"}, (0, 1)) == "t?"
    assert asked.answers((0, 1)) == ["an x", "a y"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_few_options_come_in_all_orders(number):
    names = [f"c{n}" for n in range(number)]
    assert set(orders(names, names, permute=True)) == set(permutations(range(number)))


@pytest.mark.parametrize("number", [5, 7, 26])
def test_of_many_options_each_comes_once_at_each_place(number):
    names = [f"c{n:02}" for n in range(number)]
    made = orders(names, names, permute=True)
    assert len(made) == number
    assert all({order[place] for order in made} == set(range(number)) for place in range(number))


@pytest.mark.parametrize("number", [3, 6])
def test_the_order_in_the_spec_does_not_matter(number):
    names = [f"c{n}" for n in range(number)]
    other = names[1:] + names[:1]
    by_name = [[names[n] for n in order] for order in orders(names, other, permute=True)]
    assert by_name == [[other[n] for n in order] for order in orders(other, names, permute=True)]


def test_without_permuting_the_order_is_that_of_the_spec():
    assert orders(["a", "b", "c"], ["c", "a", "b"], permute=False) == ((2, 0, 1),)


@pytest.mark.parametrize(
    ("prompt", "answer", "whole"),
    [
        ("Answer:", "A", "Answer: A"),
        ("Answer:", " A", "Answer: A"),
        ("assistant\n", "A", "assistant\nA"),
        ("\u7b54\uff1a", "\u662f", "\u7b54\uff1a\u662f"),
        ("word", "A", "word A"),
    ],
)
def test_an_answer_is_behind_a_blank_where_words_are(prompt, answer, whole):
    assert joined(prompt, answer) == whole


def test_the_checksum_is_of_everything():
    asked = ClassQuestion(Template.parse("{text}?"), ("x", "y"), ("an x", "a y"), ((0, 1),))
    others = [
        ClassQuestion(Template.parse("{text}!"), *list(vars(asked).values())[1:]),
        ClassQuestion(asked.template, asked.classes, ("an x", "the y"), asked.orders),
        ClassQuestion(asked.template, asked.classes, asked.texts, ((1, 0),)),
        ClassQuestion(asked.template, asked.classes, asked.texts, asked.orders, chat=True),
    ]
    assert len({asked.digest, *(other.digest for other in others)}) == 5
