"""A spec from files, the environment and `--set`: what comes out, and what is told where it cannot."""

from __future__ import annotations

import copy
import io
import itertools
import os
import pathlib
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.source.document import Source
from kdspec.source.extends import Located, compose, load


def write(folder, **files):
    """Write files; a mapping that others extend is a spec."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "" if name == "s" or not text or text.startswith("- ") else "kdspec: 1\n"
        path.write_text(head + text, encoding="utf-8")


def composed(text, *sets, **environ):
    return compose(text, "s.yaml", pathlib.Path(), sets, environ)


def data(text, *sets, **environ):
    return composed(text, *sets, **environ).data


def quoted(texts, span):
    return Source(span.file, texts[span.file]).lines[span.line][span.column : span.end_column]


def told(action):
    """For each diagnostic: its code, the file it points at, and the text there."""
    with pytest.raises(DiagnosticError) as caught:
        action()
    found = caught.value
    return [
        (one.code, one.primary.span.file, quoted(found.texts, one.primary.span)) if one.primary else (one.code,)
        for one in found.diagnostics
    ]


def message(action):
    with pytest.raises(DiagnosticError) as caught:
        action()
    (found,) = caught.value.diagnostics
    return found.message


class TestExtends:
    def test_mappings_are_merged_and_anything_else_is_replaced(self, tmp_path):
        write(
            tmp_path,
            base="a: 1\nt: {x: 1, y: [1, 2], z: 3, w: {v: 1}}\n",
            s="extends: base.yaml\nt: {y: [3], z: null, w: 5}\nb: 2\n",
        )
        document = load(tmp_path / "s.yaml")
        assert document.data == {"kdspec": 1, "a": 1, "t": {"x": 1, "y": [3], "z": None, "w": 5}, "b": 2}
        assert ("extends",) not in document.keys

    def test_each_place_is_in_the_file_in_which_it_is_written(self, tmp_path):
        write(tmp_path, base="a: 1\nt: {x: 1}\n", s="extends: base.yaml\nt: {y: 2}\n")
        document = load(tmp_path / "s.yaml")
        assert document.values["t", "x"].file.endswith("base.yaml")
        assert document.keys["t",].file.endswith("s.yaml")
        assert {pathlib.Path(name).name for name in document.sources} == {"base.yaml", "s.yaml"}

    def test_of_several_files_the_later_one_wins(self, tmp_path):
        write(tmp_path, a="x: 1\ny: 1\nz: 1", b="y: 2\nz: 2", s="extends: [a.yaml, b.yaml]\nz: 3")
        assert load(tmp_path / "s.yaml").data == {"kdspec": 1, "x": 1, "y": 2, "z": 3}

    def test_files_are_relative_to_the_file_that_names_them(self, tmp_path):
        write(tmp_path, parts__deep__a="a: 1", parts__b="extends: deep/a.yaml\nb: 2", s="extends: parts/b.yaml")
        assert load(tmp_path / "s.yaml").data == {"kdspec": 1, "a": 1, "b": 2}

    def test_strings_of_another_folder_keep_that_folder(self, tmp_path):
        write(
            tmp_path,
            parts__base="path: data.tsv\nother: x",
            near="near: y",
            s="extends: [parts/base.yaml, near.yaml]\nother: z",
        )
        found = load(tmp_path / "s.yaml").data
        assert found == {"kdspec": 1, "path": "data.tsv", "other": "z", "near": "y"}
        assert isinstance(found["path"], Located)
        assert found["path"].folder == tmp_path / "parts"
        assert not isinstance(found["other"], Located)
        assert not isinstance(found["near"], Located)

    def test_a_located_string_keeps_its_folder_when_it_is_copied(self):
        string = Located("data.tsv", pathlib.Path("parts"))
        for twin in (copy.deepcopy(string), pickle.loads(pickle.dumps(string))):
            assert (twin, twin.folder) == ("data.tsv", pathlib.Path("parts"))

    def test_one_file_may_be_extended_along_two_paths(self, tmp_path):
        write(tmp_path, a="x: 1", b="extends: a.yaml\ny: 2", c="extends: a.yaml\nz: 3", s="extends: [b.yaml, c.yaml]")
        assert load(tmp_path / "s.yaml").data == {"kdspec": 1, "x": 1, "y": 2, "z": 3}

    def test_the_name_may_come_from_the_environment(self, tmp_path):
        write(tmp_path, small="x: 1", s="extends: ${SIZE}.yaml")
        assert load(tmp_path / "s.yaml", environ={"SIZE": "small"}).data == {"kdspec": 1, "x": 1}
        assert [one[0] for one in told(lambda: load(tmp_path / "s.yaml", environ={}))] == ["KD007"]

    def test_only_the_top_of_a_file_extends(self):
        assert data("a: {extends: b.yaml}") == {"a": {"extends": "b.yaml"}}

    @pytest.mark.parametrize(
        ("files", "file", "place", "words"),
        [
            ({"s": "extends: none.yaml"}, "s", "none.yaml", "no such file"),
            ({"s": "extends: ."}, "s", ".", "is a folder"),
            ({"s": "extends: {a: 1}"}, "s", "{a: 1}", "takes the name of a file"),
            ({"s": "extends: [1]"}, "s", "1", "takes the name of a file"),
            ({"s": "extends:"}, "s", "", "takes the name of a file"),
            ({"s": "extends: l.yaml", "l": "- 1"}, "s", "l.yaml", "is not a mapping"),
            ({"s": "extends: e.yaml", "e": ""}, "s", "e.yaml", "is empty"),
            ({"s": "extends: ./s.yaml"}, "s", "./s.yaml", "in a circle"),
            ({"s": "extends: b.yaml", "b": "extends: [s.yaml]"}, "b", "s.yaml", "in a circle"),
        ],
    )
    def test_an_error_of_extends_is_at_the_name_of_the_file(self, tmp_path, monkeypatch, files, file, place, words):
        monkeypatch.chdir(tmp_path)
        write(tmp_path, **files)
        assert told(lambda: load("s.yaml")) == [("KD006", f"{file}.yaml", place)]
        assert words in message(lambda: load("s.yaml"))

    def test_a_circle_names_the_files_in_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(tmp_path, s="extends: a.yaml", a="extends: b.yaml", b="extends: a.yaml")
        assert message(lambda: load("s.yaml")).endswith("a.yaml → b.yaml → a.yaml")

    def test_an_error_in_an_extended_file_is_located_there(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(tmp_path, s="extends: b.yaml", b="lr: 1\nlr: 2")
        assert told(lambda: load("s.yaml")) == [("KD002", "b.yaml", "lr")]

    def test_files_that_extend_each_other_many_times_are_refused(self, tmp_path):
        names = [f"f{i}" for i in range(12)]
        for name, following in itertools.pairwise(names):
            write(tmp_path, **{name: f"extends: [{', '.join([following + '.yaml'] * 10)}]"})
        write(tmp_path, f11="a: 1")
        assert "more than 64 files" in message(lambda: load(tmp_path / "f0.yaml"))

    @pytest.mark.slow
    def test_the_limits_hold_for_all_files_together(self, tmp_path):
        for name in "ab":
            write(tmp_path, **{name: "\n".join(f"{name}{i}: 0" for i in range(9_000))})
        write(tmp_path, s="extends: [a.yaml, b.yaml]")
        assert [one[0] for one in told(lambda: load(tmp_path / "s.yaml"))] == ["KD004"]


class TestEnvironment:
    def test_a_variable_is_put_into_text(self):
        assert data("a: x-${A}-${B_2}\nb: '${A}'\nc: [\"${A}\"]", A="1", B_2="y") == {
            "a": "x-1-y",
            "b": "1",
            "c": ["1"],
        }

    @pytest.mark.parametrize(
        ("value", "expected"), [("1e-3", 1e-3), ("true", True), ("on", "on"), ("", None), ("[1]", "[1]")]
    )
    def test_alone_and_without_quotes_it_is_read_as_a_scalar(self, value, expected):
        found = data("a: ${A}", A=value)["a"]
        assert (found, type(found)) == (expected, type(expected))

    def test_in_quotes_or_blocks_it_is_text(self):
        assert data("a: '${A}'\nb: |-\n  ${A}\nc: ${A} \nd: ${A}${A}", A="1") == {"a": "1", "b": "1", "c": 1, "d": "11"}

    def test_the_default_is_used_if_it_is_unset_or_empty(self):
        assert data("a: ${A:-1e-4}\nb: x${B:-y}\nc: ${C:-}", B="") == {"a": 1e-4, "b": "xy", "c": None}

    def test_two_dollars_are_one_dollar_before_a_brace(self):
        assert data("a: $${A}\nb: $$\nc: $A\nd: '$$${A}'\ne: $${", A="1") == {
            "a": "${A}", "b": "$$", "c": "$A", "d": "$${A}", "e": "${",
        }  # fmt: skip

    def test_the_value_of_a_variable_is_plain_text(self):
        assert data("a: &x ${A}\nb: *x\nc: '${A}'", A="${B}") == {"a": "${B}", "b": "${B}", "c": "${B}"}
        assert data("a: ${A}", A="1\nb: 2") == {"a": "1\nb: 2"}
        assert data("a: ${A}", A="*x") == {"a": "*x"}

    def test_keys_are_as_written(self):
        assert data("${A}: 1", A="x") == {"${A}": 1}

    def test_each_unset_variable_is_located_inside_its_string(self):
        text = 'a: x ${ONE} y\nb: [\'${TWO}\', "${THREE}"]\nc: "\\t${FOUR}"\n'
        assert told(lambda: data(text)) == [
            ("KD007", "s.yaml", "${ONE}"),
            ("KD007", "s.yaml", "${TWO}"),
            ("KD007", "s.yaml", "${THREE}"),
            ("KD007", "s.yaml", '"\\t${FOUR}"'),
        ]

    @pytest.mark.parametrize("text", ["${}", "${1A}", "${A B}", "${A", "${A:x}", "${A:=x}"])
    def test_a_malformed_variable_is_reported(self, text):
        assert told(lambda: data(f"a: x {text}", A="1")) == [("KD007", "s.yaml", "${")]

    def test_one_that_is_not_needed_need_not_be_set(self, tmp_path):
        write(tmp_path, base="a: ${NOT_SET}\nb: 1", s="extends: base.yaml\na: 1")
        assert load(tmp_path / "s.yaml", environ={}).data == {"kdspec": 1, "a": 1, "b": 1}
        assert data("a: ${NOT_SET}", "a=1") == {"a": 1}

    def test_a_value_that_is_no_utf_8_text_is_refused(self):
        assert told(lambda: data("a: ${A}", A="\udcff")) == [("KD007", "s.yaml", "${A}")]

    def test_a_value_that_is_too_large_is_refused(self):
        assert told(lambda: data("a: ${A}", A="9" * 30)) == [("KD004", "s.yaml", "${A}")]
        assert told(lambda: data("a: " + "${A}" * 20, A="x" * 100_000))[0][0] == "KD004"

    def test_the_process_environment_is_the_default(self, monkeypatch):
        monkeypatch.setenv("KDSPEC_TEST", "7")
        assert compose("a: ${KDSPEC_TEST}", "s").data == {"a": 7}


class TestSet:
    @pytest.mark.parametrize(
        ("argument", "expected"),
        [
            ("a=1e-4", {"a": 1e-4, "l": [{"x": 1}, 2], "m": {6: 2}}),
            ("a={b: [1, x]}", {"a": {"b": [1, "x"]}, "l": [{"x": 1}, 2], "m": {6: 2}}),
            ("a=", {"a": None, "l": [{"x": 1}, 2], "m": {6: 2}}),
            ("l.0.x=5", {"a": 1, "l": [{"x": 5}, 2], "m": {6: 2}}),
            ("l.1=5", {"a": 1, "l": [{"x": 1}, 5], "m": {6: 2}}),
            ("m={7: 1}", {"a": 1, "l": [{"x": 1}, 2], "m": {7: 1}}),
            ("m.6=3", {"a": 1, "l": [{"x": 1}, 2], "m": {6: 3}}),
            ("m.7=3", {"a": 1, "l": [{"x": 1}, 2], "m": {6: 2, 7: 3}}),
            ("m.'6'=3", {"a": 1, "l": [{"x": 1}, 2], "m": {6: 2, "6": 3}}),
            ('m."a.b=c d".e=3', {"a": 1, "l": [{"x": 1}, 2], "m": {6: 2, "a.b=c d": {"e": 3}}}),
            ("n.o.p=x=y", {"a": 1, "l": [{"x": 1}, 2], "m": {6: 2}, "n": {"o": {"p": "x=y"}}}),
        ],
    )
    def test_a_value_is_put_at_its_path(self, argument, expected):
        assert data("a: 1\nl: [{x: 1}, 2]\nm: {6: 2}", argument) == expected

    def test_a_key_that_is_a_text_of_digits_is_found(self):
        assert data("m: {'6': 2}", "m.6=3") == {"m": {"6": 3}}

    def test_the_last_one_wins_and_mappings_are_replaced(self):
        assert data("loss: {kl: {t: 1}}", "loss={ce: {}}", "x=1", "x=2") == {"loss": {"ce": {}}, "x": 2}

    def test_it_comes_after_extending(self, tmp_path):
        write(tmp_path, base="a: {b: 1}", s="extends: base.yaml")
        assert load(tmp_path / "s.yaml", ["a.b=2"]).data == {"kdspec": 1, "a": {"b": 2}}

    def test_an_empty_mapping_or_text_is_filled(self):
        assert data("training:\n", "training.epochs=3") == {"training": {"epochs": 3}}
        assert data("", "a.b=1") == {"a": {"b": 1}}

    def test_only_the_place_that_is_named_is_set_where_aliases_share_it(self):
        assert data("a: &x {y: 1}\nb: *x", "b.y=2") == {"a": {"y": 1}, "b": {"y": 2}}

    def test_variables_are_substituted_here_too(self):
        assert data("a: 1", "a=${A}", A="2") == {"a": 2}

    def test_the_arguments_can_be_quoted(self):
        document = composed("a: 1", "a=2", "b.c={d: 3}")
        texts = {name: source.text for name, source in document.sources.items()}
        assert texts == {"s.yaml": "a: 1", "--set": "a=2", "--set#2": "b.c={d: 3}"}
        assert quoted(texts, document.values["a",]) == "2"
        assert quoted(texts, document.keys["a",]) == "a"
        assert quoted(texts, document.keys["b",]) == "b"
        assert quoted(texts, document.keys["b", "c"]) == "c"
        assert quoted(texts, document.values["b", "c", "d"]) == "3"
        assert document.values["b", "c", "d"].file == "--set#2"

    @pytest.mark.parametrize(
        ("argument", "code", "place"),
        [
            ("a", "KD008", ""),
            ("", "KD008", ""),
            ("=1", "KD008", "="),
            ("a..b=1", "KD008", "."),
            ("a.=1", "KD008", "="),
            ("a b=1", "KD008", " "),
            ('"a=1', "KD008", '"'),
            ('"a"b=1', "KD008", "b"),
            ("a.b=1", "KD008", "b"),
            ("l.2=1", "KD008", "2"),
            ("l.-1=1", "KD008", "-1"),
            ("l.x=1", "KD008", "x"),
            ("e.0=1", "KD008", "0"),
            ("a=#1", "KD008", "#1"),
            (".".join("a" * 65) + "=1", "KD008", ".".join("a" * 65)),
            ("a=[1", "KD001", "1"),
            ("a=b: c: d", "KD001", ":"),
            ("a={b: 1, b: 2}", "KD002", "b"),
            ("a=!!set {x}", "KD005", "!!set"),
            ("a=1\n---\nb: 2", "KD005", "-"),
        ],
    )
    def test_an_error_of_set_is_located_inside_the_argument(self, argument, code, place):
        assert told(lambda: data("a: 1\nl: [1, 2]\ne: []", argument)) == [(code, "--set", place)]

    def test_a_text_or_a_list_at_the_top_has_no_keys_to_set(self):
        assert told(lambda: data("text", "a=1")) == [("KD008", "--set", "a")]
        assert told(lambda: data("[1]", "a=1")) == [("KD008", "--set", "a")]

    def test_all_are_reported_at_once(self):
        assert told(lambda: data("a: ${A}", "x", "b=1", "=")) == [
            ("KD008", "--set", ""),
            ("KD008", "--set#3", "="),
            ("KD007", "s.yaml", "${A}"),
        ]

    def test_together_they_cannot_pass_the_limits(self):
        sets = [f"a{'.a' * (40 * i)}={'[' * 40}{']' * 40}" for i in (0, 1)]
        assert [one[0] for one in told(lambda: data("", *sets))] in (["KD008"], ["KD004"])
        assert [one[0] for one in told(lambda: data("", f"{'a.' * 40}a={'[' * 40}{']' * 40}"))] == ["KD004"]


class TestReading:
    def test_a_dash_is_standard_input(self):
        document = load("-", stdin=io.StringIO("\ufeffa: 1\n"))
        assert document.data == {"a": 1}
        assert list(document.sources) == ["<stdin>"]

    def test_standard_input_that_is_too_long_or_not_text_is_refused(self):
        assert told(lambda: load("-", stdin=io.StringIO("x" * (2**20 + 1)))) == [("KD004",)]
        assert told(lambda: load("-", stdin=io.TextIOWrapper(io.BytesIO(b"a: \xff"), "utf-8"))) == [("KD003",)]

    def test_the_folder_is_that_of_the_file(self, tmp_path):
        write(tmp_path, s="a: 1")
        document = load(str(tmp_path / "s.yaml"))
        assert document.folder == tmp_path
        assert document.values["a",].file == str(tmp_path / "s.yaml")

    @pytest.mark.parametrize(
        ("content", "code", "words"),
        [
            (b"\xef\xbb\xbfa: 1", None, ""),
            (b"a: 1\r\nb: 2", None, ""),
            ("a: 1".encode("utf-16"), "KD003", "is UTF-16"),
            (b"a: 1\nb: caf\xe9\n", "KD003", "byte 0xE9 in line 2"),
            (b"x" * (2**20 + 1), "KD004", "more than 1,048,576 bytes"),
            (b"a: \0", "KD001", "control character"),
        ],
    )
    def test_a_file_is_utf_8_text_of_at_most_a_mebibyte(self, tmp_path, content, code, words):
        path = tmp_path / "s.yaml"
        path.write_bytes(content)
        if code is None:
            assert load(path).data["a"] == 1
        else:
            assert told(lambda: load(path))[0][0] == code
            assert words in message(lambda: load(path))

    def test_an_unreadable_file_is_named(self, tmp_path):
        assert "no such file" in message(lambda: load(tmp_path / "none.yaml"))
        assert "is a folder" in message(lambda: load(tmp_path))
        assert "not the name of a file" in message(lambda: load("a\0b"))
        assert "too long" in message(lambda: load("x" * 5000))
        assert "not a directory" in message(lambda: load(f"{__file__}/s.yaml"))

    def test_of_a_folder_the_spec_is_proposed_but_not_that_of_a_run(self, tmp_path):
        def help_():
            with pytest.raises(DiagnosticError) as caught:
                load(tmp_path)
            return caught.value.diagnostics[0].help

        assert help_() == "name a YAML file, or `-` for standard input"
        (tmp_path / "spec.yaml").touch()
        assert help_() == f"did you mean `{tmp_path / 'spec.yaml'}`?"
        (tmp_path / "events.jsonl").touch()  # its paths begin elsewhere
        assert "name the spec that it was begun with" in help_()

    def test_a_near_name_is_proposed_for_a_missing_file(self, tmp_path):
        (tmp_path / "run" / "sub").mkdir(parents=True)
        (tmp_path / "spec.yaml").write_text("a: 1")
        (tmp_path / "run" / "spec.yaml").write_text("a: 1")
        for path, near in (("spec.yml", "spec.yaml"), ("sepc.yaml", "spec.yaml"), ("run", "run/spec.yaml")):
            with pytest.raises(DiagnosticError) as caught:
                load(tmp_path / path)
            assert caught.value.diagnostics[0].help == f"did you mean `{tmp_path / near}`?"
        for path in ("other.txt", "run/sub", "none/spec.yaml"):
            with pytest.raises(DiagnosticError) as caught:
                load(tmp_path / path)
            assert "did you mean" not in (caught.value.diagnostics[0].help or "")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_pipes_and_devices_are_refused_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert "is a pipe" in message(lambda: load(tmp_path / "pipe"))
        assert "is a device" in message(lambda: load("/dev/zero"))
        assert "is a file of `/proc`" in message(lambda: load("/proc/self/environ"))

    def test_a_name_that_is_no_text_can_be_printed(self, tmp_path):
        assert "\N{REPLACEMENT CHARACTER}" in message(lambda: load(os.fsdecode(b"caf\xe9.yaml")))

    def test_a_closed_input_is_an_error_of_the_user(self):
        stream = io.StringIO("a: 1")
        stream.close()
        assert told(lambda: load("-", stdin=stream)) == [("KD003",)]


ARGUMENTS = st.lists(
    st.sampled_from(
        ["a", "l", ".", "=", "0", "1", "'", '"', "[", "]", "{", "}", ": ", "${A}", "${", "$$", "#", "\n", " ", "x", "!"]
    ),
    max_size=12,
).map("".join)


@settings(deadline=None)
@given(
    st.sampled_from(["", "a: 1", "a: {l: [1, {x: ${A}}]}", "l: [&x {a: $${A}}, *x]"]),
    st.lists(ARGUMENTS | st.text(), max_size=3),
)
def test_any_argument_gives_a_document_or_diagnostics_with_places_in_a_text(text, sets):
    try:
        document = compose(text, "s", pathlib.Path(), sets, {"A": "1"})
    except DiagnosticError as error:
        raised = error
    else:
        raised = None
        spans = [*document.keys.values(), *document.values.values()]
        sources = document.sources
    if raised is not None:
        spans = [label.span for one in raised.diagnostics for label in (one.primary, *one.secondary) if label]
        sources = {name: Source(name, text) for name, text in raised.texts.items()}
    for span in spans:
        lines = sources[span.file].lines
        assert (span.line, span.column) <= (span.end_line, span.end_column)
        assert 0 <= span.column <= len(lines[span.line])
        assert 0 <= span.end_column <= len(lines[span.end_line])
