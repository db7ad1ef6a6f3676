"""Field paths: what is one, what it says, and what following it gives."""

from __future__ import annotations

from collections import UserDict
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdspec.api.paths.field_path import MAX_LENGTH, FieldPath, FieldPathError, parse


def error(text):
    with pytest.raises(FieldPathError) as caught:
        parse(text)
    found = caught.value
    return found.message, text[found.offset : found.offset + found.length]


def failure(text, **roots):
    with pytest.raises(FieldPathError) as caught:
        parse(text).evaluate(**roots)
    found = caught.value
    return found.message, text[found.offset : found.offset + found.length]


def assert_path_or_error(text):
    try:
        path = parse(text)
    except FieldPathError as raised:
        found = raised
    else:
        assert str(path) == text
        return
    assert found.message
    assert 0 <= found.offset <= found.offset + found.length <= len(text)


class TestWhatAPathSays:
    @pytest.mark.parametrize(
        ("text", "root", "attributes", "subscripts"),
        [
            ("output", "output", (), None),
            ("output.logits", "output", ("logits",), None),
            ("output[1]", "output", (), 1),
            ("output[-1]", "output", (), -1),
            ("output.hidden_states[1:]", "output", ("hidden_states",), slice(1, None)),
            ("output.hidden_states[1:][0]", "output", ("hidden_states",), slice(1, None)),
            ("output.hidden_states[-3:9:2]", "output", ("hidden_states",), slice(-3, 9, 2)),
            ("output.a.b[3].c", "output", ("a", "b"), 3),
            ("output['logits'][2]", "output", ("logits",), 2),
            ('batch["labels"]', "batch", ("labels",), None),
            ("output.logits[:, :-1]", "output", ("logits",), None),
            ("output.logits[..., None, 0]", "output", ("logits",), None),
            ("batch.labels != -100", "batch", ("labels",), None),
            (" (output) . logits ", "output", ("logits",), None),
            ("batch.é[1]", "batch", ("é",), 1),
        ],
    )
    def test_root_names_and_first_subscript(self, text, root, attributes, subscripts):
        path = parse(text)
        assert (path.root, path.attributes, path.subscripts) == (root, attributes, subscripts)
        assert (path.module, path.side) == (None, None)

    @pytest.mark.parametrize("side", ["input", "output"])
    def test_a_module_and_its_side(self, side):
        path = parse(f'modules["bert.encoder.layer.3"].{side}[0]')
        assert (path.root, path.module, path.side) == ("modules", "bert.encoder.layer.3", side)
        assert (path.attributes, path.subscripts) == ((), 0)

    def test_both_sides_of_a_comparison_are_references(self):
        path = parse('batch.a == modules["m"].output[0]')
        assert [(one.root, one.module) for one in path.references] == [("batch", None), ("modules", "m")]
        assert len(parse("batch.a == 3").references) == 1

    def test_paths_are_equal_by_their_text(self):
        assert len({parse("output.a[1:]"), FieldPath("output.a[1:]"), parse("output.a")}) == 2
        assert parse("output.a") != "output.a"
        assert str(parse("output.a[1:]")) == "output.a[1:]"
        assert repr(parse("output.a")) == "FieldPath('output.a')"


class TestWhatIsNotAPath:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("output.__class__", ".__class__"),
            ("output.a._b.c", "._b"),
            ("output.é.__x", ".__x"),
            ("outputs.x", "outputs"),
            ("x", "x"),
            ("1 + 1", "1 + 1"),
            ("print(output)", "print(output)"),
            ("output.a.pop()", "output.a.pop()"),
            ("output.a.pop().b", "output.a.pop()"),
            ("output[f()]", "f()"),
            ("output[1.5]", "1.5"),
            ("output[True]", "True"),
            ("output[b'a']", "b'a'"),
            ("output[-'a']", "-'a'"),
            ("output[output]", "output"),
            ("output[::0]", "0"),
            ("output[9223372036854775808]", "9223372036854775808"),
            ("output[1:'a']", "'a'"),
            ("output[1, 'a']", "'a'"),
            ("output[(1, 2), 3]", "(1, 2)"),
            ("output[*batch]", "*batch"),
            ("-output", "-output"),
            ("not output", "not output"),
            ("[output.a]", "[output.a]"),
            ("(output.a, output.b)", "(output.a, output.b)"),
            ("lambda: output", "lambda: output"),
            ("f'{output}'", "f'{output}'"),
            ("output if batch else output", "output if batch else output"),
            ("(output := 1)", "output := 1"),
            ("[x for x in output]", "[x for x in output]"),
            ("output.a < 1 < 2", "output.a < 1 < 2"),
            ("output.a is None", "output.a is None"),
            ("1 in output.a", "1 in output.a"),
            ("1 == output.a", "1"),
            ("output.x == None", "None"),
            ("output.x == -'a'", "-'a'"),
            ("output.x == [1]", "[1]"),
            ("modules", "modules"),
            ("modules.x", ".x"),
            ("modules[0].output", "[0]"),
            ('modules["x"]', 'modules["x"]'),
            ('modules["x"].weight', ".weight"),
            ('modules["x"][0]', "[0]"),
            ("output.x[", "["),
            ("output..x", "."),
            ("output\n.x", "\n"),
            ("output.x # the logits", "#"),
            ("output.x; batch.y", ";"),
            ("output['a\\n']", "\\"),
            ("", ""),
            ("  ", "  "),
        ],
    )
    def test_it_is_refused_at_its_place(self, text, place):
        assert error(text)[1] == place

    def test_the_message_lists_what_is_allowed_and_suggests_the_nearest(self):
        message, _ = error("ouput.logits")
        assert "`batch`" in message
        assert message.endswith("did you mean `output`?")
        assert "`.input` or `.output`" in error('modules["x"]')[0]

    @pytest.mark.parametrize(
        "text",
        [
            "output" + "[0]" * 300,
            "(" * 250 + "output",
            "-" * 400 + "1",
            "output[" * 70 + "0" + "]" * 70,
            "output.x == " + "9" * 480,
        ],
    )
    def test_long_and_deep_texts_are_an_error_or_a_path(self, text):
        assert_path_or_error(text)

    def test_a_long_text_is_refused(self):
        assert str(MAX_LENGTH) in error("output." + "x" * MAX_LENGTH)[0]

    def test_nothing_is_warned_of(self):
        """Python warns of `1is` and of calling a number, and the tests make an error of any warning."""
        for text in ("output.x == 1is 2", "1()", "output.x == 0x1for x"):
            error(text)


class Pair(NamedTuple):
    a: int
    b: int


class TestFollowing:
    def test_a_name_is_an_attribute_or_else_a_key(self):
        output = SimpleNamespace(logits=1, extra={"items": 2, "logits": 3})
        assert parse("output.logits").evaluate(output=output) == 1
        assert parse("output.extra.logits").evaluate(output=output) == 3
        assert parse("output.extra.items").evaluate(output=output) == 2
        assert parse("batch.x").evaluate(batch=UserDict(x=4)) == 4
        assert parse("output.b").evaluate(output=Pair(5, 6)) == 6

    def test_subscripts_take_elements_and_slices(self):
        hidden = tuple(torch.arange(6).reshape(2, 3) + i for i in range(4))
        output = {"hidden_states": hidden}
        assert parse("output.hidden_states[1:]").evaluate(output=output) == hidden[1:]
        assert parse("output['hidden_states'][-1]").evaluate(output=output) is hidden[3]
        assert parse("output.hidden_states[0][:, :-1]").evaluate(output=output).tolist() == [[0, 1], [3, 4]]
        assert parse("output.hidden_states[0][..., None, 0]").evaluate(output=output).shape == (2, 1)
        assert parse("output").evaluate(output=hidden[0]) is hidden[0]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("batch.x == 2", [False, True, False]),
            ("batch.x != 2", [True, False, True]),
            ("batch.x < 2", [True, False, False]),
            ("batch.x <= 2", [True, True, False]),
            ("batch.x > -1.5", [True, True, True]),
            ("batch.x >= batch['y']", [False, True, True]),
        ],
    )
    def test_comparisons_are_element_by_element(self, text, expected):
        batch = {"x": torch.tensor([1, 2, 3]), "y": torch.tensor([2, 2, 2])}
        assert parse(text).evaluate(batch=batch).tolist() == expected

    @pytest.mark.parametrize("captured", [SimpleNamespace(input=(1, 2), output=3), {"input": (1, 2), "output": 3}])
    def test_modules_have_an_input_and_an_output(self, captured):
        assert parse('modules["a.0"].input[1]').evaluate(modules={"a.0": captured}) == 2
        assert parse("modules['a.0'].output").evaluate(modules={"a.0": captured}) == 3

    def test_a_model_output_works_by_name_key_and_position(self):
        outputs = pytest.importorskip("transformers.modeling_outputs")
        output = outputs.SequenceClassifierOutput(loss=torch.tensor(1.0), logits=torch.tensor([2.0]))
        for text in ("output.logits", "output['logits']", "output[1]"):
            assert parse(text).evaluate(output=output) is output.logits
        message, place = failure("output.attentions[0]", output=output)
        assert place == ".attentions"
        assert "None" in message
        assert message.endswith("there are `loss`, `logits`")


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        ("text", "place", "message"),
        [
            ("output.logit", ".logit", "there are `logits`"),
            ("output['logit']", "['logit']", "object is not subscriptable"),
            ("output.hidden", ".hidden", "is None: the model does not return it"),
            ("output.pair.c", ".c", "there are `a`, `b`"),
            ("output.several[3]", "[3]", "a tuple of 2"),
            ("output.several.x", ".x", "a tuple of 2"),
            ("output.several[1]", "[1]", "is None"),
            ("output.several.count", ".count", "a tuple of 2"),
            ("output.tensor[0, 0]", "[0, 0]", "a tensor of shape (3,)"),
            ("output.tensor['a']", "['a']", "a tensor of shape (3,)"),
            ("output.tensor[::-1]", "[::-1]", "a tensor of shape (3,)"),
            ("output.tensor.sum", ".sum", "a tensor of shape (3,)"),
            ("output.mapping.b", ".b", "there are `a`"),
            ("output.mapping.keys", ".keys", "there are `a`"),
            ("output.mapping[0]", "[0]", "there are `a`"),
            ("output.number.x", ".x", "of type int"),
            ("output.number[0]", "[0]", "of type int"),
            ("output.broken", ".broken", "there are `logits`"),
            ("batch.x", "batch", "there is no `batch`"),
            ("modules['m'].output", "modules['m'].output", "no module `m`"),
            ("output.tensor == output.longer", "output.tensor == output.longer", "cannot compare"),
            ("output.tensor < 'a'", "output.tensor < 'a'", "cannot compare"),
        ],
    )
    def test_the_step_that_fails_is_named_with_what_there_is(self, text, place, message):
        class Output:
            @property
            def broken(self):
                raise RuntimeError("no gradient here")

        output = Output()
        output.logits, output.hidden, output.pair = 1, None, Pair(1, 2)
        output.several, output.mapping, output.number = (1, None), {"a": 1, "c": None}, 5
        output.tensor, output.longer = torch.zeros(3), torch.zeros(4)
        told, where = failure(text, output=output)
        assert where == place
        if "subscriptable" not in message:
            assert message in told

    def test_a_long_list_of_names_is_truncated(self):
        message, _ = failure("output.x", output={f"k{i:02}": 1 for i in range(50)})
        assert message.endswith("`k19`, …")


NAMES = st.sampled_from(["output", "batch", "modules", "logits", "a", "_x", "é"])
PIECES = st.sampled_from(
    [
        ".",
        "[",
        "]",
        "(",
        ")",
        "'",
        '"',
        "0",
        "-1",
        "1:",
        ":",
        ", ",
        "...",
        "None",
        " == ",
        " != ",
        "<",
        "*",
        "lambda",
        "{",
        "}",
        "#",
        "\n",
        "\\",
        "f'",
        "not ",
        "1e9",
        "0x",
        "@",
        "😀",
    ]
)
GRAMMAR = st.recursive(
    st.sampled_from(["output", "batch", "modules['m'].input", 'modules["a.b"].output']),
    lambda inner: st.builds(
        str.__add__,
        inner,
        st.sampled_from([".a", "['a']", "[0]", "[-1]", "[1:]", "[:, :-1]", "[..., None]", " . b", "[::2]"]),
    ),
    max_leaves=6,
)


@given(st.one_of(st.text(), st.lists(NAMES | PIECES, max_size=20).map("".join)))
def test_any_text_is_a_path_or_an_error_inside_of_the_text(text):
    assert_path_or_error(text)


@given(GRAMMAR, st.sampled_from(["", " == 3", " != -100", " < batch.a"]))
def test_a_path_that_is_printed_and_read_again_means_the_same(reference, comparison):
    path = parse(reference + comparison)
    again = parse(str(path))
    assert (again.root, again.module, again.side) == (path.root, path.module, path.side)
    assert (again.attributes, again.subscripts) == (path.attributes, path.subscripts)

    class Echo:
        """Answers each step with a longer record of the steps so far."""

        def __init__(self, steps=()):
            object.__setattr__(self, "steps", steps)

        def __getattr__(self, name):
            return Echo((*self.steps, name)) if not name.startswith("_") else object.__getattribute__(self, name)

        def __getitem__(self, subscript):
            return Echo((*self.steps, repr(subscript)))

        def __eq__(self, other):
            return self.steps == getattr(other, "steps", other)

        __hash__ = None

        def __lt__(self, other):
            return self.steps < other.steps

    roots = {"output": Echo(), "batch": Echo(("batch",)), "modules": {"m": Echo(("m",)), "a.b": Echo(("a.b",))}}
    assert again.evaluate(**roots) == path.evaluate(**roots)
