"""Prompts with fields in braces."""

from __future__ import annotations

import pytest

from kdspec.data.prompted.template import Template, TemplateError


def test_fields_are_filled_and_listed_once_in_their_order():
    made = Template.parse("{b} and {a}: {options}, {b}")
    assert made.columns == ("b", "a")
    assert made.lists_options
    assert made.filled({"a": "1", "b": "2", "options": "A. x"}) == "2 and 1: A. x, 2"


def test_braces_in_a_text_of_a_row_are_text():
    assert Template.parse("say {text}").filled({"text": "{options} {{x}}"}) == "say {options} {{x}}"


def test_doubled_braces_are_braces():
    made = Template.parse('{{"a": {text}}}')
    assert made.fields == ("text",)
    assert made.filled({"text": "1"}) == '{"a": 1}'


def test_line_ends_behind_a_prompt_are_left_out_and_those_in_it_are_kept():
    assert Template.parse("a {text}\n\nAnswer: \n").filled({"text": "b"}) == "a b\n\nAnswer:"


def test_a_column_may_have_any_name():
    assert Template.parse("{the headline} { text }").columns == ("the headline", "text")


@pytest.mark.parametrize(
    ("prompt", "line"), [("{text", 1), ("a\nb}", 2), ("{}", 1), ("{a{b}}", 1), ("a\n\n{ {text}", 3)]
)
def test_a_single_brace_is_refused_with_its_line(prompt, line):
    with pytest.raises(TemplateError, match=f"^line {line} of the prompt has a single `[{{}}]`$"):
        Template.parse(prompt)
