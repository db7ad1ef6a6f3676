"""Of a Python file the literals are read, and nothing is run."""

from __future__ import annotations

import textwrap

import pytest

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.source.nodes import ListNode, MappingNode, Source
from kdspec.textbrewer.python_reader import read


def plain(node):
    match node:
        case ListNode():
            return [plain(item) for item in node.items]
        case MappingNode():
            return {key: plain(value) for key, (_, value) in node.items.items()}
    return node.value


def found(text):
    return read(Source("a.py", textwrap.dedent(text)))


def settings(text):
    return {name: plain(node) for name, (_, node) in found(text).settings.items()}


MATCH = '{"layer_T": 4, "layer_S": 1, "feature": "hidden", "loss": "cos", "weight": 1}'


def test_arguments_are_read_by_name_and_by_position():
    text = """
    import textbrewer
    config = textbrewer.DistillationConfig(8, hard_label_weight=-0.5, temperature_scheduler=("flsw", 1, 2))
    TrainingConfig(2, fp16=True, log_dir=None)
    """
    assert settings(text) == {
        "temperature": 8,
        "hard_label_weight": -0.5,
        "temperature_scheduler": ["flsw", 1, 2],
        "gradient_accumulation_steps": 2,
        "fp16": True,
        "log_dir": None,
    }


def test_what_train_is_given_belongs_to_it():
    text = "d.train(optimizer, loader, num_epochs=3, max_grad_norm=1.0, callback=f)\nmodel.train()\n"
    assert settings(text) == {"num_epochs": 3, "max_grad_norm": 1.0}


def test_names_sums_and_tables_of_lists_are_followed():
    text = f"""
    one = [{MATCH}]
    two: list = [dict(layer_T=[0, 0], layer_S=[0, 0])]
    table = {{"one": one, "two": two}}
    DistillationConfig(intermediate_matches=one + table["two"])
    """
    (matches,) = settings(text).values()
    assert [match["layer_T"] for match in matches] == [4, [0, 0]]


def test_lists_of_matches_are_kept_by_name():
    text = f"one = [{MATCH}]\ntable = {{'two': [{MATCH}, {MATCH}]}}\nother = [1, 2]\nempty = []\n"
    assert {name: len(node.items) for name, node in found(text).matches.items()} == {"one": 1, "two": 2}


def test_a_place_is_counted_in_characters():
    (span, node) = found('DistillationConfig("é", temperature_scheduler="x")').settings["temperature_scheduler"]
    assert (span.column, span.end_column) == (24, 45)
    assert (node.span.column, node.span.end_column) == (46, 49)


@pytest.mark.parametrize(
    "value",
    [
        "args.temperature",
        "f()",
        "1 + f()",
        "[x for x in y]",
        "twice",
        "grown",
        "loop",
        "table['no']",
        "open('x').read()",
    ],
)
def test_a_value_that_is_computed_is_a_warning_at_its_place(value):
    text = f"twice = 1\ntwice = 2\ngrown = []\ngrown += [1]\nloop = loop\ntable = {{}}\nDistillationConfig(temperature={value})\n"
    read_ = found(text)
    assert read_.settings == {}
    (computed,) = read_.unknown.values()
    assert (computed.warning.code, computed.warning.severity) == ("KD601", "warning")
    assert computed.warning.primary.span.line >= 4


def test_arguments_in_a_mapping_are_reported():
    assert "`**`" in found("DistillationConfig(**kwargs)").unknown["**"].warning.message


def test_two_configurations_that_differ_are_a_mistake():
    (told,) = found("DistillationConfig(temperature=1)\nDistillationConfig(temperature=2)\n").diagnostics
    assert (told.code, told.primary.span.line) == ("KD002", 1)


@pytest.mark.parametrize("text", ["DistillationConfig(", "a = '\\N{nothing}'", "(" * 500, "a = " + "-" * 100_000 + "1"])
def test_invalid_python_is_reported(text):
    with pytest.raises(DiagnosticError) as caught:
        read(Source("a.py", text))
    assert caught.value.diagnostics[0].code == "KD601"


def test_nothing_is_run(tmp_path):
    file = tmp_path / "made"
    found(f"open({str(file)!r}, 'w')\nDistillationConfig(temperature=open({str(file)!r}, 'w'))\n")
    assert not file.exists()
