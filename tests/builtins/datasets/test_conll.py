"""Files of tagged words."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.builtins.datasets.conll import Conll
from kdspec.diagnostics.fault import Fault


@pytest.fixture
def read(tmp_path):
    """The rows of `train` in a file with this text."""

    def rows(text, **fields):
        (tmp_path / "train.txt").write_text(text, encoding="utf-8", newline="")
        return Conll(train=["train.txt"], **fields).build(DatasetContext(folder=tmp_path))["train"].to_dict()

    return rows


def test_sentences_end_with_a_blank_line(read):
    expected = {"tokens": [["EU", "rejects"], ["Peter"]], "tags": [["B-ORG", "O"], ["B-PER"]]}
    assert read("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n") == expected
    assert read("\n\nEU x B-ORG\r\nrejects x O\r\n\t\n\nPeter x B-PER") == expected
    start = "-DOCSTART- -X- -X- O\n\n"
    assert read(f"{start}EU x B-ORG\nrejects x O\n{start}Peter x B-PER\n") == expected


def test_columns_are_chosen(read):
    text = "# sent_id = 1\n1\tEU\tB-ORG\t-\n2\t#1\tO\t-\n"
    assert read(text, separator="\t", token=1, tag=-2, comments="# ") == {
        "tokens": [["EU", "#1"]],
        "tags": [["B-ORG", "O"]],
    }


def test_a_character_is_a_word(read):
    assert read("中 B-LOC\n国 E-LOC\n\n人 O\n") == {
        "tokens": [["中", "国"], ["人"]],
        "tags": [["B-LOC", "E-LOC"], ["O"]],
    }


def test_a_blank_may_be_a_word_where_the_separator_is_written(read):
    assert read("a\tO\n \tO\n", separator="\t")["tokens"] == [["a", " "]]


def test_a_file_without_tags(read, tmp_path):
    assert read("EU\nrejects\n\nPeter\n") == {"tokens": [["EU", "rejects"], ["Peter"]]}
    (tmp_path / "train.txt").write_text("EU O\n")
    (tmp_path / "more.txt").write_text("EU\n")
    data = Conll(train=["train.txt"], unlabelled=["more.txt"])
    names = {split: list(columns) for split, columns in data.column_names(BuildContext(folder=tmp_path)).items()}
    assert names == {"train": ["tokens", "tags"], "unlabelled": ["tokens"]}


def test_the_columns_of_a_file_that_cannot_be_read_are_not_known(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\n" * 70_000 + b"EU O\n")
    assert not Conll(train=["train.txt"]).column_names(BuildContext(folder=tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfeE\0", "this is UTF-16, not UTF-8"), (b"\x1f\x8b\x08", "compressed by gzip")],
)
def test_a_file_that_is_no_text_is_told_before_the_run(content, message, tmp_path):
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(Fault, match=message):
        Conll(train=["train.txt"]).column_names(BuildContext(folder=tmp_path))


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2009", "\u2028", "\x0b", "\x1f", "\x85"])
def test_only_spaces_and_tabs_part_columns(blank, read):
    expected = {"tokens": [[f"12{blank}500", blank, "km"]], "tags": [["B-NUM", f"O{blank}", "O"]]}
    assert read(f"12{blank}500 B-NUM\n{blank} \t O{blank}\nkm\tO \n") == expected


@given(
    st.lists(st.text(st.characters(exclude_characters=" \t\r\n", exclude_categories=["Cs"]), min_size=1), min_size=1)
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_word_is_kept(read, words):
    assume(not words[0].startswith(("\ufeff", "-DOCSTART-")))
    assume(not any(word.startswith("-DOCSTART-") for word in words))
    assert read("".join(f"{word} \tO\n" for word in words)) == {"tokens": [words], "tags": [["O"] * len(words)]}


def test_a_compressed_file(tmp_path):
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"EU O\n"))
    data = Conll(train=["train.txt.gz"])
    assert data.build(DatasetContext(folder=tmp_path))["train"].to_dict() == {"tokens": [["EU"]], "tags": [["O"]]}
    assert data.column_names(BuildContext(folder=tmp_path)) == {"train": ("tokens", "tags")}


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("EU NNP O\nrejects O\n", {}, "train.txt:2: 2 columns, and 3 before"),
        ("EU O\n", {"tag": 2}, "train.txt:1: there is no column 2: the line has 2 columns"),
        ("EU O\n", {"token": -3}, "train.txt:1: there is no column -3: the line has 2 columns"),
        ("\n\n", {}, "train.txt: the file has no words"),
        ("", {}, "train.txt: the file has no words"),
    ],
)
def test_a_mistake_is_reported_with_its_line(text, fields, message, read):
    with pytest.raises(Fault) as caught:
        read(text, **fields)
    assert (caught.value.code, caught.value.at) == ("KD502", ("train", 0))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "separator", "message", "help_"),
    [
        ("EU\tO\n", ",", "no line of `train.txt` has the separator `,`", 'its lines have tabs: write `separator: "\\t"`'),
        ("New York O\n", "\t", r"no line of `train.txt` has the separator `\t`", "its lines have blanks: remove `separator`"),
        ("EU,O\nof,O\n", None, "no line of `train.txt` has a blank or a tab", 'its lines have commas: write `separator: ","`'),
        ("EU;O\n,;O\n", ",", "not every line of `train.txt` has the separator `,`", 'its lines have semicolons: write `separator: ";"`'),
        ("EU|O\n", None, "no line of `train.txt` has a blank or a tab", 'its lines have vertical bars: write `separator: "|"`'),
        ("EU\nof\n", None, "no line of `train.txt` has a blank or a tab", None),
        ("New York\nof\n", "\t", r"no line of `train.txt` has the separator `\t`", None),
    ],
)  # fmt: skip
def test_without_tags_the_separator_of_the_lines_is_named(text, separator, message, help_, tmp_path):
    (tmp_path / "train.txt").write_text(f"-DOCSTART-\n\n{text}")
    found = Conll(train=["train.txt"], separator=separator).why_no_column(
        BuildContext(folder=tmp_path), "train", "tags"
    )
    assert (found.message, found.help) == (message, help_)
    assert found.at == (("train", 0) if separator is None else ("separator",))


def test_a_column_that_no_separator_gives_has_no_reason(tmp_path):
    data, context = Conll(train=["train.txt"]), BuildContext(folder=tmp_path)
    assert data.why_no_column(context, "train", "label") is None
    assert data.why_no_column(context, "test", "tags") is None


def test_a_word_is_found_in_its_file(tmp_path):
    (tmp_path / "one.txt").write_text("EU B-ORG\nrejects O\n\nPeter O\n")
    (tmp_path / "two.txt").write_text("# new\n\nPeter B-PER\nrejects O\n\n")
    data = Conll(train=["one.txt", "two.txt"], validation=0.5, comments="# ")
    row, context = {"tokens": ["Peter", "rejects"], "tags": ["B-PER", "O"]}, BuildContext(folder=tmp_path)
    assert data.place(context, "train", row, 1) == data.place(context, "validation", row, 1) == "two.txt:4"
    assert data.place(context, "train", {"tokens": ["Peter"]}, 0) == "one.txt:4"
    assert data.place(context, "train", {**row, "tags": ["O", "O"]}, 0) is None
    (tmp_path / "one.txt").unlink()
    assert data.place(context, "train", row, 1) is None
