"""Reading YAML: what the data is, where it is written, and what is refused."""

from __future__ import annotations

import math
import pathlib

import pytest
from cpu_seconds import cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.diagnostics.diagnostic import DiagnosticError, Span
from kdspec.source.document import Source, parse


def data(text):
    return parse(text, "s.yaml").data


def written(text, span):
    """The text at a span."""
    lines = Source("s.yaml", text).lines
    if span.line == span.end_line:
        return lines[span.line][span.column : span.end_column]
    inner = lines[span.line + 1 : span.end_line]
    return "\n".join([lines[span.line][span.column :], *inner, lines[span.end_line][: span.end_column]])


def errors(text):
    with pytest.raises(DiagnosticError) as caught:
        parse(text, "s.yaml")
    return caught.value.diagnostics


def error(text):
    (found,) = errors(text)
    return found


def pointed(text):
    """The code, and the text that the diagnostic points at."""
    found = error(text)
    return found.code, written(text, found.primary.span)


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-4", 1e-4),
            ("5e-05", 5e-5),
            ("1E-4", 1e-4),
            ("1.e-4", 1e-4),
            (".5", 0.5),
            ("+1.5", 1.5),
            ("-.inf", -math.inf),
            (".INF", math.inf),
            ("1e1000", math.inf),
            ("010", 10),
            ("-017", -17),
            ("+3", 3),
            ("0x1F", 31),
            ("0o17", 15),
            ("18446744073709551615", 2**64 - 1),
            ("-18446744073709551615", 1 - 2**64),
            ("0000000000000000000000000000000001", 1),
            ("true", True),
            ("False", False),
            ("~", None),
            ("null", None),
            ("", None),
        ],
    )
    def test_plain_text_is_a_number_boolean_or_null_as_in_yaml_1_2(self, text, value):
        found = data(f"a: {text}")["a"]
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize(
        "text",
        [
            "on",
            "off",
            "yes",
            "no",
            "NO",
            "y",
            "1:12",
            "12:30:45",
            "2024-01-01",
            "1_000",
            "0b1",
            "08:00",
            "tRue",
            "e5",
            "1e",
            ".",
            "-",
            "+",
            "0x",
            "0xg",
            "0o8",
            "nan",
            "inf",
            "1.2.3",
            "\N{ARABIC-INDIC DIGIT ONE}",
            "<<",
        ],
    )
    def test_other_plain_text_is_text(self, text):
        assert data(f"a: {text}" if text != "-" else "a: '-'") == {"a": text}

    def test_nan_is_a_float(self):
        assert math.isnan(data("a: .nan")["a"])

    @pytest.mark.parametrize("text", ["'1'", '"1"', "!!str 1", "|-\n  1", ">-\n  1"])
    def test_quotes_blocks_and_the_tag_str_make_text(self, text):
        assert data(f"a: {text}") == {"a": "1"}

    @pytest.mark.parametrize(
        ("text", "value"),
        [("!!int '7'", 7), ("!!float 7", 7.0), ("!!bool 'true'", True), ("!!null ''", None), ("!!seq [1]", [1])],
    )
    def test_core_tags_set_the_type(self, text, value):
        found = data(f"a: {text}")["a"]
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize("text", ["9" * 5000, "18446744073709551616", "0x" + "f" * 17, "-" + "9" * 30])
    def test_an_integer_of_more_than_64_bits_is_refused(self, text):
        assert pointed(f"a: {text}") == ("KD004", text)


class TestSpans:
    def test_each_key_and_value_has_its_place(self):
        text = "a: 1\nlist:\n  - x\n  - {b: 'two', 3: \"é\"}\n"
        document = parse(text, "s.yaml")
        assert {path: written(text, span) for path, span in document.keys.items()} == {
            ("a",): "a",
            ("list",): "list",
            ("list", 1, "b"): "b",
            ("list", 1, 3): "3",
        }
        assert {path: written(text, span) for path, span in document.values.items()} == {
            (): text.rstrip(),
            ("a",): "1",
            ("list",): "- x\n  - {b: 'two', 3: \"é\"}",
            ("list", 0): "x",
            ("list", 1): "{b: 'two', 3: \"é\"}",
            ("list", 1, "b"): "'two'",
            ("list", 1, 3): '"é"',
        }

    def test_an_empty_value_is_just_after_its_key(self):
        assert parse("key:\nb: 1", "s").values["key",] == Span("s", 0, 4, 0, 4)

    def test_a_block_scalar_is_covered_without_the_empty_lines_after_it(self):
        text = "a: |\n  x\n  y\n\n\nb: 1\n"
        assert written(text, parse(text, "s").values["a",]) == "|\n  x\n  y"

    def test_a_mapping_ends_with_its_last_value(self):
        text = "a:\n  b: 1\n\n# about c\n\nc: 2\n"
        assert written(text, parse(text, "s").values["a",]) == "b: 1"

    def test_anchors_and_tags_are_not_part_of_a_value(self):
        text = "a: &x !!str 5\nb: &y\n  c: 1\nd: &z [2]\n"
        document = parse(text, "s")
        assert [written(text, document.values[key,]) for key in "abd"] == ["5", "c: 1", "[2]"]

    def test_values_of_an_alias_or_a_merge_are_located_at_the_anchor(self):
        text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n"
        document = parse(text, "s")
        assert document.data["c"] == {"x": 1, "y": 2}
        assert document.values["b", "x"] == document.values["c", "x"] == document.values["a", "x"]
        assert document.keys["c", "x"] == document.keys["a", "x"]

    def test_columns_count_characters_without_the_byte_order_mark(self):
        document = parse("\ufeffé: 😀 x\n", "s")
        assert document.values["é",] == Span("s", 0, 3, 0, 6)
        assert document.sources["s"].text == "é: 😀 x\n"

    def test_windows_line_ends_are_one_line_break(self):
        document = parse("a: 1\r\nb: 2\r\n", "s")
        assert document.values["b",] == Span("s", 1, 3, 1, 4)
        assert document.sources["s"].lines == ("a: 1", "b: 2", "")


class TestMerges:
    def test_own_keys_win_over_merged_ones_wherever_they_stand(self):
        assert data("a: &a {x: 1, y: 1}\nb: {y: 2, <<: *a}") == {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 2}}

    def test_the_first_of_several_mappings_wins(self):
        assert data("b: {<<: [{x: 1}, {x: 2, y: 2}]}") == {"b": {"x": 1, "y": 2}}

    def test_quotes_make_an_ordinary_key_of_it(self):
        assert data("b: {'<<': 1}") == {"b": {"<<": 1}}

    def test_only_mappings_can_be_merged(self):
        assert pointed("a: {<<: 5}") == ("KD005", "5")
        assert pointed("a: {<<: [{x: 1}, 5]}") == ("KD005", "5")


class TestDuplicateKeys:
    def test_both_places_are_labelled(self):
        text = "lr: 1\nweight: 2\nlr: 3\n"
        found = error(text)
        assert (found.code, found.message) == ("KD002", "duplicate key `lr`")
        assert found.primary.span == Span("s.yaml", 2, 0, 2, 2)
        assert [(label.span, label.text) for label in found.secondary] == [
            (Span("s.yaml", 0, 0, 0, 2), "first used here")
        ]

    def test_all_are_reported_at_once(self):
        found = errors("a: 1\na: 2\na: 3\nb: {c: 1, c: 2}\n<<: {d: 1}\n<<: {e: 1}\n")
        assert [(d.message, d.primary.span.line) for d in found] == [
            ("duplicate key `a`", 1),
            ("duplicate key `a`", 2),
            ("duplicate key `c`", 3),
            ("duplicate key `<<`", 5),
        ]

    def test_numbers_are_compared_as_numbers_and_not_with_texts(self):
        assert error("{16: a, 0x10: b}").code == "KD002"
        assert data("{6: a, '6': b}") == {6: "a", "6": "b"}


class TestWhatIsNotAllowed:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("true: 1", "true"),
            ("1.5: 1", "1.5"),
            ("~: 1", "~"),
            ("? [a]\n: 1", "[a]"),
            ("? {a: 1}\n: 1", "{a: 1}"),
            ("a: !!python/object/apply:os.system [x]", "!!python/object/apply:os.system"),
            ("a: !!binary aGk=", "!!binary"),
            ("a: !!set {x}", "!!set"),
            ("a: !local x", "!local"),
            ("a: !<str> x", "!<str>"),
            ("a: ! x", "!"),
            ("a: !!int x", "!!int"),
            ("a: !!float true", "!!float"),
            ("a: !!map [1]", "!!map"),
            ("a: !!seq {x: 1}", "!!seq"),
            ("a: !!str [1]", "!!str"),
            ("a: &x [1, *x]", "*x"),
            ("a: &x {b: {c: *x}}", "*x"),
            ("a: 1\n---\nb: 2\n", "-"),
            ("a: 1\n---\n", "-"),
        ],
    )
    def test_it_is_refused_at_its_place(self, text, place):
        assert pointed(text) == ("KD005", place)

    def test_several_are_reported_at_once(self):
        assert [d.code for d in errors("a: !x 1\ntrue: 2\nb: 1\nb: 2\nc: *none\n")] == [
            "KD005",
            "KD005",
            "KD002",
            "KD001",
        ]

    def test_one_document_may_have_its_markers(self):
        assert data("---\na: 1\n...\n") == {"a": 1}


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "place", "message"),
        [
            ("a:\n\tb: 1", "\t", "a tab is not allowed here"),
            ("a: [1, 2", "2", "expected `,` or `]`, not the end of the text"),
            ("a: {b: 1\nc: 2}", ":", "expected `,` or `}`, not `:`"),
            ("a: 'x\n", "'", "this quoted string is never closed"),
            ('a: "x\n---\n', '"', "this quoted string is never closed"),
            ("a: b: c", ":", "unexpected `:`"),
            ("a: 1\nb 2\nc: 3", "b", "missing `:` after a key"),
            ("a: @x", "@", "an unquoted string cannot begin with `@`"),
            ("a: %x", "%", "an unquoted string cannot begin with `%`"),
            ("a: *", "*", "an unquoted string cannot begin with `*` or `&`"),
            ("a: *x", "*x", "no anchor `&x` precedes this alias"),
            ("*x : 1", "*x", "no anchor `&x` precedes this alias"),
            ("a: - b", "-", "a list item cannot begin here"),
            ("a: ? b", "?", "a key cannot begin here"),
            ("a:\n    b: 1\n  c: 2", "c", "unexpected a mapping"),
            ("- a\nb: 1", "b", "unexpected a key"),
            ("a: [1, 2]]", "]", None),
            ('a: "\\q"', "q", "unknown escape in double quotes"),
            ('a: "\\xZZ"', "Z", "unknown escape in double quotes"),
            ('a: "\\U00110000"', None, "this number is too large"),
            ("%YAML 1." + "1" * 5000 + "\n---\na: 1", None, "this number is too large"),
            ('a: "\\0"', '"\\0"', "this escape is not a valid character"),
            ('a: "\\uD800"', '"\\uD800"', "this escape is not a valid character"),
            ("a: b\0c", None, "the control character U+0000 is not allowed"),
            ("a: \x1b[31m", None, "the control character U+001B is not allowed"),
            ("a: !e!x 1", None, None),
            ("%YAML 2.0\n---\na: 1", None, None),
        ],
    )
    def test_the_message_is_plain_and_at_the_error(self, text, place, message):
        found = error(text)
        assert found.code == "KD001"
        assert message is None or found.message == message
        assert place is None or written(text, found.primary.span) == place

    def test_the_place_where_it_began_is_labelled_too(self):
        found = error("a:\n  [1,\n   2\nb: 3\n")
        assert [(label.span.line, label.text) for label in found.secondary] == [(1, "the list is opened here")]

    def test_a_substitution_in_a_flow_mapping_gets_its_own_advice(self):
        assert "quote it" in error("a: {lr: ${LR}}").help

    def test_text_in_utf_16_is_named_as_a_likely_cause(self):
        assert "UTF-16" in error("a: 1".encode("utf-16-le").decode()).help

    def test_errors_found_before_are_kept(self):
        assert [d.code for d in errors("a: 1\na: 2\nb: [")] == ["KD002", "KD001"]

    @pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "\ufeff"])
    def test_a_text_without_content_has_no_data(self, text):
        document = parse(text, "s")
        assert document.data is None
        assert not document.values


def nested_aliases(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def nested_merges(levels):
    lines = ["a0: &a0 {" + ", ".join(f"k{i}: {i}" for i in range(10)) + "}"]
    lines += [f"a{i}: &a{i} {{k: *a{i - 1}, <<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, levels)]
    return "\n".join(lines)


class TestLimits:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(nested_aliases(20), id="aliases"),
            pytest.param(nested_merges(20), id="merges"),
            pytest.param("[" * 30_000, id="brackets"),
            pytest.param("{a: " * 30_000, id="braces"),
            pytest.param("- " * 30_000, id="dashes"),
            pytest.param("? " * 30_000, id="question marks"),
            pytest.param("".join(" " * i + "a:\n" for i in range(1000)), id="indentation"),
            pytest.param("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40, id="depth by alias"),
            pytest.param("".join(f"k{i}: 0\n" for i in range(80_000)), id="keys"),
            pytest.param("a: " + "x" * 2**20, id="size"),
        ],
    )
    def test_an_alias_bomb_is_refused_quickly(self, text):
        found = []
        # A loaded machine takes several times the 0.01 to 1 s of a quiet one.
        assert cpu_seconds(lambda: found.extend(errors(text))) < 5
        assert [d.code for d in found] == ["KD004"]

    def test_up_to_the_limits_all_is_read(self):
        assert len(data("\n".join(f"k{i}: 0" for i in range(9_999)))) == 9_999
        deep = data("[" * 64 + "]" * 64)
        for _ in range(63):
            (deep,) = deep
        assert deep == []

    def test_an_alias_may_be_used_often(self):
        assert data("a: &a {x: 1}\nb: [" + ", ".join(["*a"] * 1000) + "]")["b"] == [{"x": 1}] * 1000


class TestDocument:
    def test_locate_skips_what_the_document_does_not_have(self):
        document = parse("stages: {distil: {loss: {kl: {temperature: 8}}, layers: {6: 2}}}", "s")
        loc = ("stages", "distil", "Loss", "loss", "kl", "function-wrap", "temperature")
        assert document.locate(loc) == ("stages", "distil", "loss", "kl", "temperature")
        assert document.locate(("stages", "distil", "layers", 6, "[key]")) == ("stages", "distil", "layers", 6)
        assert document.locate(("nothing",)) == ()
        assert document.locate(()) == ()

    @pytest.mark.parametrize("value", ["output.logits", "'output.logits'", '"output.logits"'])
    def test_inside_points_into_a_string_on_one_line(self, value):
        text = f"a: {value}"
        assert written(text, parse(text, "s").inside(("a",), 7, 13)) == "logits"

    def test_inside_never_passes_the_end_of_the_string(self):
        assert written("a: 'xy'", parse("a: 'xy'", "s").inside(("a",), 1, 99)) == "y"

    @pytest.mark.parametrize("value", ["'it''s'", '"a\\tb"', "|\n  output", "two\n  lines", "5", "[1]"])
    def test_inside_is_the_whole_value_if_the_text_differs_from_it(self, value):
        document = parse(f"a: {value}", "s")
        assert document.inside(("a",), 1, 2) == document.values["a",]

    def test_it_keeps_its_folder_and_source(self):
        document = parse("a: 1", "s.yaml", pathlib.Path("specs"))
        assert document.folder == pathlib.Path("specs")
        assert document.sources == {"s.yaml": Source("s.yaml", "a: 1")}

    def test_its_places_cannot_be_changed(self):
        with pytest.raises(TypeError):
            parse("a: 1", "s").values["b",] = None


PIECES = st.sampled_from(
    [
        "a",
        "b: ",
        ": ",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "\n  ",
        "\n    ",
        "'",
        '"',
        "|\n",
        ">\n",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!!int ",
        "!x ",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "# c",
        "\t",
        "\\",
        "\\x41",
        "1e-4",
        "~",
        "5",
        "\r\n",
        "\r",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x00",
        "\x0c",
        "é",
        "😀",
        "${A}",
        "%",
        "@",
        "`",
        "\\U00110000",
        "9" * 30,
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


def assert_in_text(span, source):
    begin, end = (span.line, span.column), (span.end_line, span.end_column)
    assert begin <= end
    for line, column in (begin, end):
        assert 0 <= line < len(source.lines)
        assert 0 <= column <= len(source.lines[line])


@pytest.mark.slow
@settings(deadline=None)
@given(TEXTS)
def test_any_text_gives_a_document_or_diagnostics_with_places_in_the_text(text):
    try:
        document = parse(text, "s")
    except DiagnosticError as raised:
        source = Source("s", raised.texts["s"])
        for found in raised.diagnostics:
            for label in (found.primary, *found.secondary):
                assert_in_text(label.span, source)
    else:
        for span in (*document.keys.values(), *document.values.values()):
            assert_in_text(span, document.sources["s"])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False),
    st.text("ab1:#é '\"\\\n[{&*!%@-?"),
)
KEYS = st.one_of(st.text("abé:#'\"\\ -", max_size=5), st.integers(0, 99))
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def dumped(value):
    """YAML as JSON would write it, which YAML 1.2 contains (with keys that may be numbers)."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumped(key)}: {dumped(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumped, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if value is None or isinstance(value, bool):
        return str(value).lower() if value is not None else "~"
    return repr(value).replace("inf", ".inf")


@pytest.mark.slow
@settings(deadline=None)
@given(DATA)
def test_data_that_is_written_is_read_again(value):
    assert repr(data(dumped(value))) == repr(value)
