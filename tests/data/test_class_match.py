"""Classes are matched by their names, however these are spelt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdspec.data.class_match import folded, groups, line, mapping_line, match, renamed, scalar, uncased
from kdspec.diagnostics.diagnostic import listed
from kdspec.source.document import parse

LETTERS = st.text("abcdefghéßжщ学生", min_size=1, max_size=6)
NAMES = st.lists(LETTERS, min_size=2, max_size=9, unique_by=folded)


@st.composite
def spelt_otherwise(draw, name):
    """The same name in another case, with blanks, `_` or `-` between its letters."""
    cased = draw(st.sampled_from([str, str.upper, str.title, str.swapcase]))(name)
    cased = cased if folded(cased) == folded(name) else name
    return "".join(
        letter + draw(st.sampled_from(["", "", "", " ", "_", "-", "\N{NO-BREAK SPACE}"])) for letter in cased
    )


@given(st.data(), NAMES)
def test_a_head_of_the_same_classes_is_put_in_order_whatever_its_spelling(data, ours):
    shuffled = data.draw(st.permutations(ours))
    theirs = [data.draw(spelt_otherwise(name)) for name in shuffled]
    found = match(theirs, ours)
    assert [shuffled[number] for number in found.order] == ours
    assert found.relation == ("same" if shuffled == ours else "order")
    assert found.in_their_order() == shuffled
    assert found.mapping() == dict(zip(theirs, shuffled, strict=True))
    assert not found.unknown
    assert not found.lacking


@given(st.data(), NAMES)
def test_what_is_written_as_told_is_the_same_in_the_same_order(data, ours):
    """The list of the help, read by YAML, has the classes of the task in the order of the head."""
    theirs = [data.draw(spelt_otherwise(name)) for name in data.draw(st.permutations(ours))]
    told = parse(line("labels", match(theirs, ours).in_their_order()), "spec.yaml").data["labels"]
    assert sorted(told) == sorted(ours)
    assert match(theirs, told).relation == "same"


@given(st.data(), NAMES, st.integers(0, 3))
def test_classes_that_only_one_side_has_are_named(data, names, left_out):
    """Of any two lists of classes, each class is in both, or named as missing on its side."""
    theirs = data.draw(st.permutations(names))
    ours = data.draw(st.permutations(names))[left_out:] or names[:1]
    theirs = theirs[data.draw(st.integers(0, 3)) :] or names[-1:]
    found = match(theirs, ours)
    both = set(theirs) & set(ours)
    assert set(found.unknown) == set(theirs) - both
    assert set(found.lacking) == set(ours) - both
    expected = {(True, True): "order", (True, False): "fewer", (False, True): "more", (False, False): "some"}
    relation = expected[not found.unknown, not found.lacking]
    assert found.relation == ("none" if not both else "same" if theirs == ours else relation)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$"), min_size=1, max_size=8)


@given(st.lists(TEXTS, min_size=1, max_size=6, unique=True))
def test_any_name_is_written_so_that_it_is_read_as_itself(names):
    data = parse(line("labels", names), "spec.yaml").data
    assert data == {"labels": names}


def test_names_are_the_same_but_for_case_blanks_and_lines():
    assert folded("Not_Spam") == folded("not-spam") == folded("NOT SPAM") == folded(" not\N{NO-BREAK SPACE}spam ")
    assert folded("B-PER") == folded("b_per")
    assert folded("Straße") == folded("STRASSE")
    assert uncased(" A- ") == "a-"


def test_signs_and_numbers_are_no_spelling():
    assert folded("-1") != folded("1")
    assert folded("+1") == folded("1") == folded("1.0")
    assert folded("007") != folded("7")
    assert match(["-1", "0", "1"], ["1", "0", "-1"]).order == (2, 1, 0)
    assert match(["+", "-", "_"], ["-", "+", "_"]).order == (1, 0, 2)


def test_names_that_differ_by_a_sign_alone_are_told_apart():
    found = match(["a", "a-", "a+"], ["A+", "A", "A-"])
    assert found.order == (2, 0, 1)


def test_names_that_fold_to_one_are_matched_only_as_they_are():
    assert match(["not spam", "not_spam"], ["not_spam", "not spam"]).order == (1, 0)
    assert match(["notspam", "x"], ["not spam", "not_spam"]).relation == "none"


def test_both_lists_stand_side_by_side_and_nothing_is_cut_in_silence():
    found = match([f"x{n}" for n in range(50)], [f"y{n}" for n in range(50)])
    assert found.by_position(2) == "0 `x0` = `y0`, 1 `x1` = `y1` and 48 more"
    assert found.by_position().endswith("39 `x39` = `y39` and 10 more")
    assert listed(["a", "b", "c"], 2) == "`a`, `b` and 1 more"


def test_numbers_and_signs_are_quoted_in_what_is_to_be_written():
    assert [scalar(name) for name in ("2", "true", "a, b", "B-PER", "学生", "null", "-x")] == [
        '"2"', '"true"', '"a, b"', "B-PER", "学生", '"null"', '"-x"',
    ]  # fmt: skip
    assert mapping_line("labels", {"NEG": "0", "POS": "1"}) == 'labels: {NEG: "0", POS: "1"}'


@given(st.data(), NAMES)
def test_every_class_is_in_the_group_of_its_name(data, ours):
    """Of any mapping, whatever the spelling of its keys and names: each class of theirs is in one group, that of its name."""
    theirs = [f"{number} {name}" for number, name in enumerate(data.draw(st.lists(LETTERS, min_size=2, max_size=12)))]
    meant = [data.draw(st.sampled_from(range(len(ours)))) for _ in theirs]
    mapping = {name.upper(): ours[one] for name, one in zip(theirs, meant, strict=True)}
    found = groups(renamed(theirs, mapping), ours)
    assert found == tuple(tuple(n for n, one in enumerate(meant) if one == number) for number in range(len(ours)))


def test_a_class_without_a_name_in_the_mapping_keeps_its_own():
    names = renamed(["POS", "NEG", "MIXED"], {"pos": "good", "neg": "bad"})
    assert names == ("good", "bad", "MIXED")
    assert groups(names, ["mixed", "bad", "fine"]) == ((2,), (1,), ())
