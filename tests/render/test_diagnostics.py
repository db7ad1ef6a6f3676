"""Diagnostics as text: the exact layout, and that no diagnostic can break it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kdspec.diagnostics.diagnostic import Diagnostic, Edit, Label, Span
from kdspec.render.clean import cells_of
from kdspec.render.diagnostics import concise, full, github, plain, summary
from kdspec.source.document import Source

TEXT = """\
kdspec: 1
name: x
stages:
  distil:
    distiller: {general: {soft: 1, soft: 2}}
    b: 1
    c: 2
    d: 3

# the end
"""
LINES = TEXT.splitlines()


def span(line, word, times=1, file="a.yaml", text=TEXT):
    """The span of a word of a line, counted from one as in the output."""
    column = -1
    for _ in range(times):
        column = text.splitlines()[line - 1].index(word, column + 1)
    return Span(file, line - 1, column, line - 1, column + len(word))


def shown(diagnostic, width=100, **texts):
    sources = {name.replace("_", "."): Source(name.replace("_", "."), text) for name, text in texts.items()}
    return full(diagnostic, sources or {"a.yaml": Source("a.yaml", TEXT)}, width).plain


def test_one_label_with_its_help():
    diagnostic = Diagnostic("KD101", "unknown key `b`", Label(span(6, "b"), "not a key here"), help="did you mean `a`?")
    assert (
        shown(diagnostic)
        == """\
error[KD101]: unknown key `b`
 --> a.yaml:6:5
  |
6 |     b: 1
  |     ^ not a key here
  |
  = help: did you mean `a`?
"""
    )


def test_without_asides_nothing_follows_the_marks():
    assert (
        shown(Diagnostic("KD305", "idle", Label(span(2, "x")), severity="warning"))
        == """\
warning[KD305]: idle
 --> a.yaml:2:7
  |
2 | name: x
  |       ^
"""
    )


def test_two_labels_on_a_line_hang_their_texts_below_each_other():
    first = Label(span(5, "soft", 1), "first used here")
    diagnostic = Diagnostic("KD002", "duplicate key `soft`", Label(span(5, "soft", 2), "used again here"), (first,))
    assert (
        shown(diagnostic)
        == """\
error[KD002]: duplicate key `soft`
 --> a.yaml:5:36
  |
5 |     distiller: {general: {soft: 1, soft: 2}}
  |                           ----     ^^^^ used again here
  |                           |
  |                           first used here
"""
    )


def test_three_labels_on_a_line():
    others = (Label(span(5, "distiller"), "one"), Label(span(5, "general"), "two"))
    assert (
        shown(Diagnostic("KD107", "m", Label(span(5, "soft"), "three"), others))
        == """\
error[KD107]: m
 --> a.yaml:5:27
  |
5 |     distiller: {general: {soft: 1, soft: 2}}
  |     ---------   -------   ^^^^ three
  |     |           |
  |     |           two
  |     one
"""
    )


def test_a_label_inside_of_another_stays_visible():
    outer = Span("a.yaml", 4, 15, 4, 44)
    assert (
        shown(Diagnostic("KD103", "m", Label(outer, "all"), (Label(span(5, "general"), "part"),)))
        == """\
error[KD103]: m
 --> a.yaml:5:16
  |
5 |     distiller: {general: {soft: 1, soft: 2}}
  |                ^-------^^^^^^^^^^^^^^^^^^^^^
  |                ||
  |                |part
  |                all
"""
    )


def test_lines_that_are_far_apart_are_parted_by_dots_and_a_single_line_between_is_shown():
    others = (Label(span(2, "name"), "here"), Label(span(8, "d"), "there"))
    assert (
        shown(Diagnostic("KD107", "m", Label(span(6, "b")), others))
        == """\
error[KD107]: m
 --> a.yaml:6:5
  |
2 | name: x
  | ---- here
...
6 |     b: 1
  |     ^
7 |     c: 2
8 |     d: 3
  |     - there
"""
    )


def test_labels_of_several_files_have_an_arrow_each():
    other = Label(Span("base.yaml", 11, 0, 11, 4), "first used here")
    diagnostic = Diagnostic("KD107", "m", Label(span(2, "name")), (other,), notes=("why",))
    assert (
        shown(diagnostic, a_yaml=TEXT, base_yaml="\n" * 11 + "name: y\n")
        == """\
error[KD107]: m
  --> a.yaml:2:1
   |
 2 | name: x
   | ^^^^
  --> base.yaml:12:1
   |
12 | name: y
   | ---- first used here
   |
   = note: why
"""
    )


def test_a_span_of_several_lines_is_bracketed_without_its_blank_end():
    whole = Span("a.yaml", 3, 2, 8, 0)
    others = (Label(span(5, "distiller"), "a key"),)
    assert (
        shown(Diagnostic("KD102", "m", Label(whole, "the stage"), others))
        == """\
error[KD102]: m
 --> a.yaml:4:3
  |
4 | /   distil:
5 | |     distiller: {general: {soft: 1, soft: 2}}
  | |     --------- a key
6 | |     b: 1
7 | |     c: 2
8 | |     d: 3
  | |________^ the stage
"""
    )


def test_the_middle_of_a_long_span_is_left_out():
    text = "".join(f"{c}: 1\n" for c in "abcdefgh")
    assert (
        shown(Diagnostic("KD102", "m", Label(Span("a.yaml", 0, 0, 7, 4))), a_yaml=text)
        == """\
error[KD102]: m
 --> a.yaml:1:1
  |
1 | / a: 1
2 | | b: 1
... |
7 | | g: 1
8 | | h: 1
  | |____^
"""
    )


def test_a_span_that_begins_within_a_line_opens_its_bracket_below():
    text = "a: {b: 1,\n    c: 2}\n"
    assert (
        shown(Diagnostic("KD103", "m", Label(Span("a.yaml", 0, 3, 1, 9), "this")), a_yaml=text)
        == """\
error[KD103]: m
 --> a.yaml:1:4
  |
1 |   a: {b: 1,
  |  ____^
2 | |     c: 2}
  | |_________^ this
"""
    )


def test_wide_characters_and_tabs_keep_the_marks_below_their_places():
    text = "名前: 日本語\t# x\n"
    diagnostic = Diagnostic("KD103", "m", Label(Span("a.yaml", 0, 4, 0, 7)), (Label(Span("a.yaml", 0, 8, 0, 9)),))
    assert (
        shown(diagnostic, a_yaml=text)
        == """\
error[KD103]: m
 --> a.yaml:1:5
  |
1 | 名前: 日本語 # x
  |       ^^^^^^ -
"""
    )


def test_a_place_at_the_end_of_the_text_is_marked_behind_it():
    assert (
        shown(Diagnostic("KD001", "m", Label(Span("a.yaml", 0, 4, 0, 4), "here")), a_yaml="a: [")
        == """\
error[KD001]: m
 --> a.yaml:1:5
  |
1 | a: [
  |     ^ here
"""
    )


def test_a_long_line_is_cut_around_its_marks():
    text = "abcdefghi " * 60
    lines = shown(Diagnostic("KD103", "m", Label(Span("a.yaml", 0, 300, 0, 309), "here")), 60, a_yaml=text).splitlines()
    assert max(map(cell_len, lines)) <= 60
    assert lines[3].startswith("1 | …")
    assert lines[3].endswith("…")
    column = lines[4].index("^")
    assert lines[3][column : column + 9] == "abcdefghi"


@pytest.mark.parametrize("line", ["abcdefghi " * 6_000, "\t{x: 1}," * 7_000, "日本語: " * 12_000])
def test_each_error_of_a_long_line_looks_at_the_part_around_it(line, monkeypatch):
    looked_at = []
    monkeypatch.setattr("kdspec.render.snippet.cells_of", lambda part: looked_at.append(len(part)) or cells_of(part))
    sources = {"a.yaml": Source("a.yaml", line)}
    for column in range(0, 60_000, 600):
        label = Label(Span("a.yaml", 0, min(column, len(line) - 9), 0, min(column + 9, len(line))), "here")
        told = full(Diagnostic("KD103", "m", label), sources, 80).plain.splitlines()
        assert max(map(cell_len, told)) <= 80 + len(" here")
        assert "^" in told[4]
    assert max(looked_at) < 1_000


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40), st.integers(0, 5_000))
def test_the_part_of_a_long_line_has_the_marked_text_above_its_marks(text, column):
    line = "ab" * 1_500 + f"<{' '.join(text.split())}>" + "cd" * 1_500
    at = min(column, len(line) - 1)
    told = full(
        Diagnostic("KD103", "m", Label(Span("a.yaml", 0, at, 0, at + 2))), {"a.yaml": Source("a.yaml", line)}, 90
    ).plain
    above, below = told.splitlines()[3:5]
    assert cell_len(above) <= 90
    left = below.index("^")
    shown, _ = cells_of(line[at : at + 2])
    before = next(n for n in range(len(above) + 1) if cell_len(above[:n]) >= left)
    assert above[before : before + len(shown)] == shown


def test_a_secret_at_the_edge_of_the_part_is_masked():
    secret = "hf_" + "a1B2" * 10
    for gap in range(200, 420):
        line = "x" * 999 + " " + secret + " " * gap + "y: 1" + " z" * 900
        label = Label(Span("a.yaml", 0, line.index("y: 1"), 0, line.index("y: 1") + 1))
        told = full(Diagnostic("KD103", "m", label), {"a.yaml": Source("a.yaml", line)}, 100).plain
        assert "a1B2" not in told


def test_notes_are_wrapped_below_themselves_but_not_within_code():
    told = shown(Diagnostic("KD201", "m", help="known here: " + ", ".join(["`one two three`"] * 6)), 60)
    assert (
        told
        == """\
error[KD201]: m
  = help: known here: `one two three`, `one two three`,
          `one two three`, `one two three`, `one two three`,
          `one two three`
"""
    )


def test_a_place_in_a_text_that_is_not_there_is_named_without_a_quotation():
    assert (
        shown(Diagnostic("KD103", "m", Label(Span("gone.yaml", 3, 0, 3, 1)), help="h"))
        == """\
error[KD103]: m
 --> gone.yaml:4:1
  = help: h
"""
    )


def test_escape_sequences_of_a_spec_do_not_reach_the_terminal():
    diagnostic = Diagnostic("KD103", "\x1b[31mred", Label(Span("a.yaml", 0, 0, 0, 1), "\u202elabel"), notes=("a\x07",))
    told = shown(diagnostic, a_yaml="\x1b[2J: 1")
    assert not {"\x1b", "\x07", "\u202e"} & set(told)
    assert "1 | \N{REPLACEMENT CHARACTER}[2J: 1" in told


def test_concise_is_one_line_that_editors_parse():
    at = Diagnostic("KD101", "unknown key\n`b`", Label(span(6, "b")))
    assert concise(at, "a.yaml") == "a.yaml:6:5: KD101 unknown key `b`"
    assert concise(Diagnostic("KD003", "cannot read it"), "b.yaml") == "b.yaml: KD003 cannot read it"


def test_plain_data_has_the_field_names_of_ruff():
    edit = Edit(span(6, "b"), "batch")
    other = Label(span(2, "x"), "see")
    diagnostic = Diagnostic("KD101", "m", Label(span(6, "b"), "l"), (other,), ("n",), "did you mean `batch`?", edit)
    place = {
        "filename": "a.yaml",
        "location": {"row": 6, "column": 5},
        "end_location": {"row": 6, "column": 6},
    }
    assert plain(diagnostic, "a.yaml") == {
        "code": "KD101",
        "message": "m",
        "severity": "error",
        **place,
        "label": "l",
        "related": [
            {
                "message": "see",
                "filename": "a.yaml",
                "location": {"row": 2, "column": 7},
                "end_location": {"row": 2, "column": 8},
            }
        ],
        "notes": ["n"],
        "help": "did you mean `batch`?",
        "fix": {"message": "did you mean `batch`?", "edits": [{"content": "batch", **place}]},
    }


def test_plain_data_of_a_diagnostic_without_a_place_names_the_file():
    data = plain(Diagnostic("KD003", "m"), "a.yaml")
    assert (data["filename"], data["location"], data["fix"]) == ("a.yaml", None, None)


def test_github_commands_escape_what_would_end_them():
    at = Label(Span("dir,a:b.yaml", 5, 4, 5, 6))
    assert github(Diagnostic("KD101", "100%\nsure", at, help="do: it"), "x") == (
        "::error file=dir%2Ca%3Ab.yaml,line=6,endLine=6,col=5,endColumn=6,title=KD101::100%25%0Asure%0Ahelp: do: it"
    )
    assert github(Diagnostic("KD305", "m", severity="note"), "x") == "::notice file=x,title=KD305::m"


def test_github_has_no_columns_for_several_lines():
    told = github(Diagnostic("KD101", "m", Label(Span("a", 1, 4, 3, 6))), "x")
    assert told == "::error file=a,line=2,endLine=4,title=KD101::m"


@pytest.mark.parametrize(
    ("severities", "fixable", "told"),
    [
        ([], 0, "a.yaml: fine"),
        (["error"], 0, "1 error in a.yaml"),
        (["warning", "error", "error"], 1, "2 errors, 1 warning in a.yaml (1 fixable with --fix)"),
        (["note"], 0, "1 note in a.yaml"),
    ],
)
def test_the_summary_counts(severities, fixable, told):
    found = [Diagnostic("KD101", "m", severity=severity) for severity in severities]
    assert summary(found, "a.yaml", fixable) == told


ANY_TEXT = st.text(st.characters(codec=None), max_size=30)
LINE = st.integers(-2, 8)
COLUMN = st.integers(-3, 60)
SPANS = st.builds(Span, st.sampled_from(["a.yaml", "b.yaml", "none"]), LINE, COLUMN, LINE, COLUMN)
LABELS = st.builds(Label, SPANS, ANY_TEXT)
DIAGNOSTICS = st.builds(
    Diagnostic,
    st.sampled_from(["KD101", "other/X1"]),
    ANY_TEXT,
    st.none() | LABELS,
    st.lists(LABELS, max_size=4).map(tuple),
    st.lists(ANY_TEXT, max_size=2).map(tuple),
    st.none() | ANY_TEXT,
    st.none() | st.builds(Edit, SPANS, ANY_TEXT),
    st.sampled_from(["error", "warning", "note"]),
)


@given(DIAGNOSTICS, ANY_TEXT, ANY_TEXT, st.integers(0, 130))
def test_every_diagnostic_can_be_shown(diagnostic, one, two, width):
    sources = {"a.yaml": Source("a.yaml", "\n".join([one, two] * 3)), "b.yaml": Source("b.yaml", two)}
    told = full(diagnostic, sources, width).plain
    assert told.endswith("\n")
    assert not [c for c in told if c != "\n" and not c.isprintable() and not c.isspace()]
    assert "\n" not in concise(diagnostic, "a.yaml")
    assert "\n" not in github(diagnostic, "a.yaml")
    assert json.dumps(plain(diagnostic, "a.yaml"))
