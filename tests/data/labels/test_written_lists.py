"""Lists that are written in a text, and vectors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.data.labels.written_lists import are_vectors, is_written_list, looks_like_names, parsed

LABELS = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: text.strip() == text)
)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("['plot', 'music']", ["plot", "music"]),
        ('["plot", "it\'s \\u00e9"]', ["plot", "it's é"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("[0 1 0]", ["0", "1", "0"]),
        ("[0. 1.]", ["0.", "1."]),
        ("[True, False]", ["True", "False"]),
        ("[plot, science fiction]", ["plot", "science fiction"]),
        ("[science fiction]", ["science fiction"]),
        ("[]", []),
        (" [ ] ", []),
        ("[None]", []),
        ("{'a', 'b'}", ["a", "b"]),
        ("('a',)", ["a"]),
        ("['it\\'s']", ["it's"]),
    ],
)
def test_a_written_list_is_read(text, items):
    assert is_written_list(text)
    assert parsed(text) == items


@pytest.mark.parametrize(
    "text", ["['plot', 'music'", "[don't, know]", "['a', ['b']]", "[a];[b]", "['a' ... 'z']", '["\\x"]']
)
def test_what_cannot_be_read_is_no_list(text):
    assert is_written_list(text)
    assert parsed(text) is None


@pytest.mark.parametrize("text", ["plot", "plot; music", "(see below)", "{a}", "", "a [b]"])
def test_other_texts_are_none(text):
    assert not is_written_list(text)


@given(LABELS)
def test_what_python_json_and_numpy_write_is_read(labels):
    labels = [label for label in labels if label not in ("None", "null", "nan", "NaN")]
    for text in (
        str(labels),
        json.dumps(labels),
        json.dumps(labels, ensure_ascii=False),
        f"[{' '.join(map(repr, labels))}]",
    ):
        assert parsed(text) == labels


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        ([[0, 1, 0], [1, 0, 0]], 3),
        ([[0.0, 1.0], [1.0, 1.0], None], 2),
        ([[True, False]], 2),
        ([["0", "1"], ["1", "-1"], [None, "1"]], 2),
        ([[0], [1]], None),
        ([[0, 1], [0]], None),
        ([["a", "b"], ["a", "c"]], None),
        ([[0, 2], [1, 0]], None),
        ([[]], None),
        ([], None),
    ],
)
def test_vectors_are_all_of_one_length_and_of_0_and_1(rows, length):
    assert are_vectors(rows) == length


def test_names_are_short_and_have_no_brackets():
    assert looks_like_names(["plot", "music"])
    assert not looks_like_names(["plot"])
    assert not looks_like_names(["['plot'", "'music']"])
    assert not looks_like_names(["plot", ""])
    assert not looks_like_names(["x" * 50, "y"])
