"""What stands in place of the values of variables."""

from __future__ import annotations

import pytest
from cpu_seconds import cpu_seconds

from kdspec.source.environment import _references
from kdspec.source.extends import compose
from kdspec.source.variables import fingerprint


def variables(text, **environ):
    return compose(text, "s", environ=environ).variables


def test_the_place_has_the_name_of_the_variable_and_a_default_that_was_used():
    found = variables("a: x-${A}-${B:-b}\nc: {d: [1, '${C:-9}']}\ne: ${B:-2}", A="value", C="3")
    assert {path: each.written for path, each in found.places.items()} == {("a",): "x-${A}-b", ("c", "d", 1): "${C}"}
    assert found.as_written({"a": "x-value-b", "e": 2}) == {"a": "x-${A}-b", "e": 2}


@pytest.mark.parametrize("value", ["hunter2secret", 'quo"te\\d', "ünï cödé", "a/../secret/b", "line\none", "83749283"])
def test_a_value_is_replaced_in_any_text(value):
    hide = variables("a: 'x-${PW}'", PW=value).hide
    for shown in (value, repr(value), f"no file `data/{value}.csv`"):
        assert hide(f"{shown} and more") == f"{shown} and more".replace(value, "${PW}").replace(
            repr(value)[1:-1], "${PW}"
        )


def test_a_shortened_value_is_replaced():
    assert variables("a: ${PW}", PW="abcdefghijklmnop").hide("no `abcdefghij…` here") == "no `${PW}…` here"


def test_words_of_the_spec_and_parts_of_words_stay():
    found = variables("train: ${SPLIT}\nb: ${WORD}\nc: known", SPLIT="train", WORD="line")
    assert found.hide("train a baseline, line by line") == "train a baseline, ${WORD} by ${WORD}"


def test_what_was_put_in_is_not_searched_again():
    assert variables("a: ${AAAA}\nb: ${B}", AAAA="xxxxyyyy", B="AAAA").hide("xxxxyyyy AAAA") == "${AAAA} ${B}"


def test_numbers_are_replaced_at_their_place_alone():
    found = variables("a: ${N}\nb: 3", N="5")
    assert found.hide_at(("a",), "`5` is too large") == "`${N}` is too large"
    assert found.hide_at(("b",), "`5` is too large") == "`5` is too large"


def test_a_fingerprint_tells_a_change_and_not_the_value():
    assert fingerprint("s", "a") == fingerprint("s", "a")
    assert len({fingerprint("s", "a"), fingerprint("t", "a"), fingerprint("s", "b")}) == 3


@pytest.mark.parametrize("part", ["${A:-", "$${A:-", "${A", "${", "${A:-}"])
def test_many_variables_are_read_in_linear_time(part):
    found = []
    assert cpu_seconds(lambda: found.extend(_references(part * 30_000))) < 2
    assert len(found) == 30_000
