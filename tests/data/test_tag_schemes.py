"""Tags of entities: schemes, their rules, and the spans that they stand for."""

from __future__ import annotations

import itertools

import pytest

from kdspec.data import tag_schemes

SAME = {
    "iob1": "I-PER I-PER B-PER O I-LOC I-PER",
    "iob2": "B-PER I-PER B-PER O B-LOC B-PER",
    "bmes": "B-PER E-PER S-PER O S-LOC S-PER",
    "bioes": "B-PER E-PER S-PER O S-LOC S-PER",
    "bilou": "B-PER L-PER U-PER O U-LOC U-PER",
}
SPANS = [("PER", 0, 2), ("PER", 2, 3), ("LOC", 4, 5), ("PER", 5, 6)]
LONG = {
    "bmes": "B-X M-X E-X",
    "bioes": "B-X I-X E-X",
    "bilou": "B-X I-X L-X",
    "iob2": "B-X I-X I-X",
    "iob1": "I-X I-X I-X",
}


@pytest.mark.parametrize("scheme", SAME)
def test_a_scheme_encodes_spans_and_decodes_them(scheme):
    tags = SAME[scheme].split()
    assert tag_schemes.spans(tags) == SPANS
    assert tag_schemes.written(SPANS, 6, scheme) == tags
    assert tag_schemes.mistake(tags, scheme) is None
    assert tag_schemes.spans(LONG[scheme].split()) == [("X", 0, 3)]
    assert tag_schemes.written([("X", 0, 3)], 3, scheme) == LONG[scheme].split()


@pytest.mark.parametrize("scheme", SAME)
def test_the_scheme_is_found_by_its_tags(scheme):
    assert tag_schemes.find_scheme([SAME[scheme].split(), LONG[scheme].split()]) == scheme


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["DET NOUN VERB"], "plain"),
        (["DET B-PER"], "plain"),
        (["O O"], "plain"),
        (["O-N O"], "plain"),
        (["B E S B M E"], "bmes"),
        (["B-A O", "O I-A"], "iob2"),
        (["I-A I-A O I-B"], "iob1"),
    ],
)
def test_the_scheme_is_inferred_from_the_tags(sentences, scheme):
    assert tag_schemes.find_scheme([tags.split() for tags in sentences]) == scheme


@pytest.mark.parametrize(
    ("tags", "scheme", "place", "why"),
    [
        ("O I-A", "iob2", 1, "after `O`"),
        ("I-A", "iob2", 0, "the beginning of the sentence"),
        ("B-A I-B", "iob2", 1, "after `B-A`"),
        ("B-A O", "bmes", 1, "has no end"),
        ("S-A M-A", "bmes", 1, "has not begun"),
        ("B-A M-A", "bmes", 1, "the sentence ends"),
        ("B-A I-A E-A", "bmes", 1, "begins with `B-`, `M-`, `E-`, `S-`"),
        ("B-A B-A", "bioes", 1, "has no end"),
        ("NOUN", "iob2", 0, "a tag is `O`"),
        ("B-A U-A", "bilou", 1, "has no end"),
    ],
)
def test_what_breaks_the_rules(tags, scheme, place, why):
    found = tag_schemes.mistake(tags.split(), scheme)
    assert found is not None
    assert found[0] == place
    assert why in found[1]


def test_plain_tags_have_no_rules():
    assert tag_schemes.mistake(["I-A", "NOUN"], "plain") is None


def conlleval(tags):
    """The rules of CoNLL's evaluation for B, I, E and S, written down one by one."""

    def prefix(tag):
        return tag[0]

    def kind(tag):
        return tag[2:]

    def ends(before, now):
        return before != "O" and (prefix(before) in "ES" or prefix(now) in "BSO" or kind(before) != kind(now))

    def begins(before, now):
        return now != "O" and (prefix(now) in "BS" or prefix(before) in "ESO" or kind(before) != kind(now))

    found, first = [], None
    for place, (before, now) in enumerate(itertools.pairwise(["O", *tags, "O"])):
        if ends(before, now):
            found.append((kind(before), first, place))
        if begins(before, now):
            first = place
    return found


def test_tags_that_break_the_rules_are_read_as_in_the_conll_evaluation():
    known = ["O", "B-A", "I-A", "E-A", "S-A", "I-B"]
    for tags in itertools.product(known, repeat=4):
        assert tag_schemes.spans(tags) == conlleval(tags)


def test_entities_of_some_words():
    tags = {0: "B-PER", 1: "I-PER", 4: "B-LOC"}
    assert tag_schemes.spans_of(tags, [0, 1, 3, 4]) == tag_schemes.spans(["B-PER", "I-PER", "O", "B-LOC"])
