"""The JSON Schema agrees with the check: what one refuses for its shape, so does the other."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import kdspec
from kdspec import LogitLoss, load_registry
from kdspec.registry.registry import KINDS
from kdspec.source.document import parse
from kdspec.spec import check, json_schema

ROOT = Path(kdspec.__file__).parent.parent
FRESH = ROOT / "docs" / "kdspec.schema.json"
SPECS = sorted(path for path in (ROOT / "specs").rglob("*.yaml") if "assets" not in path.parts)

RICH = """
kdspec: 1
name: rich
seed: 3
tasks:
  reviews:
    sequence_classification:
      data: {csv: {train: [train.csv], validation: train.csv, delimiter: "\\t", quoting: false}}
      text: [premise, hypothesis]
      label: label
      max_length: 128
      metric: f1
models:
  teacher: {transformers: {path: ./model, dtype: float32}}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 2}, initialize: {layers: [0, 5], head: false}}
adaptors:
  teacher: {logits: output.logits, hidden: [output.hidden_states]}
  student: {paths: {features: {logits: output.logits}}}
stages:
  first:
    distiller: {supervised: {model: teacher}}
    training: {epochs: 1.5, max_grad_norm: null, evaluate: null}
  second:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: {kl: {}}, temperature: {flsw: {base: 4, beta: 1}}, weight: 0.5, probability_shift: true}
        hard_labels: {weight: {linear_decay: {from: 1, to: 0.5}}}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: uniform, projection: {linear: {}}}
          - {feature: hidden, loss: cos, layers: {6: 2, -1: -1}, weight: 0.5, projection: none}
          - {feature: hidden, loss: kdspec/mmd, pairs: [{teacher: [0, 4], student: [0, 1]}]}
          - {preset: L3_hidden_mse, weight: 2}
    training:
      steps: 10
      batch_size: 8
      optimizer: {adamw: {lr: 1.0e-3}}
      lr_schedule: {linear: {warmup: 0.1}}
      max_grad_norm: {value: 1.0, scope: student}
      precision: bf16
      checkpoint: {every_steps: 5, keep: 1}
      evaluate: {every_epochs: 0.5, metric: f1}
      early_stopping: {patience: 3}
      shuffle: false
"""
REPLACEMENTS: tuple[Any, ...] = ([], {}, "zz", 1.5, -1, True, None, {"zz": 1})


class Third(LogitLoss):
    """A loss of another package."""

    name = "third"
    alpha: float
    """Its factor."""

    def build(self, context):
        return lambda student, teacher, *, temperature: student.sum()


@pytest.fixture(scope="module")
def registry():
    return load_registry(installed=False)


@pytest.fixture(scope="module")
def validator(registry):
    return jsonschema.Draft7Validator(json_schema.json_schema(registry))


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A spec that uses most of the language, and the folder with its files."""
    folder = tmp_path_factory.mktemp("rich")
    (folder / "train.csv").write_text("premise\thypothesis\tlabel\n")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    return parse(RICH, "rich.yaml", folder)


def with_text_keys(value):
    """As a language server sees it: YAML's integer keys are text."""
    if isinstance(value, dict):
        return {str(key): with_text_keys(item) for key, item in value.items()}
    return [with_text_keys(item) for item in value] if isinstance(value, list) else value


def inner(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    yield path, value
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from inner(child, (*path, key))


def changed(data: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    result = copy.copy(data)
    result[path[0]] = changed(data[path[0]], path[1:], new)
    return result


def mutations(data: Any) -> Iterator[tuple[tuple, Any, Any]]:
    """Each single change: every value replaced by something of each type, and an unknown key in every mapping."""
    for path, value in inner(data):
        if path:
            yield from ((path, new, changed(data, path, new)) for new in REPLACEMENTS)
        if isinstance(value, dict):
            yield path, "+key", changed(data, path, {**value, "unknown_key": 1})


def refusals(data: Any, rich, registry) -> set[str]:
    """The codes by which the check refuses plain data; where they are in the text does not matter here."""
    document = dataclasses.replace(rich, data=data)
    return {diagnostic.code for diagnostic in check.check(document, registry).errors}


def test_the_schema_is_a_valid_schema(validator):
    jsonschema.Draft7Validator.check_schema(validator.schema)


def test_every_reference_leads_somewhere(validator):
    text = json.dumps(validator.schema)
    targets = {part.partition('"')[0] for part in text.split('"#/definitions/')[1:]}
    assert targets <= set(validator.schema["definitions"])


def test_the_committed_schema_is_fresh(registry):
    message = "the schema has changed; run: kdspec schema --bare -o docs/kdspec.schema.json"
    assert FRESH.read_text(encoding="utf-8") == json_schema.text(registry), message


@pytest.fixture(scope="module")
def everything():
    """What is installed, and the validator of its schema, which takes long to make."""
    installed = load_registry()
    return installed, jsonschema.Draft7Validator(json_schema.json_schema(installed))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_specs_that_come_along_validate(path, everything):
    installed, with_plugins = everything
    document = parse(path.read_text(encoding="utf-8"), path.name, path.parent)
    if "KD201" in {diagnostic.code for diagnostic in check.check(document, installed).errors}:
        pytest.skip("it needs a package of plugins/ that is not installed")
    assert messages(with_plugins, document.data) == []


def test_the_rich_spec_validates_both_ways(rich, registry, validator):
    assert messages(validator, rich.data) == []
    assert check.check(rich, registry).errors == ()


@pytest.fixture(scope="module")
def verdicts(rich, registry, validator):
    """For each mutation: what was changed to what, the codes of the check, and the messages of the schema."""
    return [
        (path, new, refusals(data, rich, registry), messages(validator, data))
        for path, new, data in mutations(rich.data)
    ]


def messages(validator, data) -> list[str]:
    return [error.message for error in validator.iter_errors(with_text_keys(data))]


# Unknown key, wrong type, not a component, unknown name: what an editor should show while one types.
SHAPE = {"KD101", "KD103", "KD105", "KD201"}


@pytest.mark.slow
def test_the_schema_refuses_what_the_check_refuses_for_its_shape(verdicts):
    assert len(verdicts) > 500
    assert [verdict for verdict in verdicts if verdict[2] & SHAPE and not verdict[3]] == []


@pytest.mark.slow
def test_the_schema_refuses_nothing_that_the_check_lets_pass(verdicts):
    refused = [verdict for verdict in verdicts if not verdict[2] and verdict[3]]
    # In Python True is 1, so the check takes it for the version.
    assert [verdict for verdict in refused if verdict[:2] != (("kdspec",), True)] == []


def test_variables_may_replace_any_scalar(validator):
    text = RICH.replace("seed: 3", "seed: ${SEED:-3}").replace("precision: bf16", "precision: ${P}")
    text = text.replace("batch_size: 8", "batch_size: ${B}").replace("shuffle: false", "shuffle: ${S}")
    text = text.replace("{loss: {kl: {}}", "{loss: '${LOSS}'").replace("weight: 2}", "weight: '${W}'}")
    assert text.count("${") == 6
    assert messages(validator, parse(text, "spec.yaml").data) == []


def test_a_spec_that_extends_another_may_leave_out_what_is_required(validator):
    part = "stages: {first: {training: {batch_size: 3}, distiller: {general: {student: small}}}}"
    assert messages(validator, parse(f"extends: base.yaml\n{part}", "spec.yaml").data) == []
    assert messages(validator, parse(part, "spec.yaml").data) != []
    part = part.replace("batch_size", "batchsize")
    assert messages(validator, parse(f"extends: [a.yaml, b.yaml]\n{part}", "spec.yaml").data) != []


def test_components_of_other_packages_have_both_their_names():
    logit_loss = of_kind(load_registry(Third, installed=False), "logit_loss")
    for value, valid in (
        ({"third": {"alpha": 1.0}}, True),
        ({"extra/third": {"alpha": 1.0}}, True),
        ({"extra/third": {"alpha": "much"}}, False),
        ("third", False),
        ("kl", True),
        ("kdspec/kl", True),
        ({"kdspec/kl": None}, True),
        ("other/kl", False),
    ):
        assert logit_loss.is_valid(value) == valid, value


def test_a_component_that_pydantic_cannot_describe_is_left_out():
    class Odd(Third):
        """It needs something that no text can hold."""

        name = "odd"
        callback: Unheard  # noqa: F821 - that nobody has heard of it is the point

    logit_loss = of_kind(load_registry(Odd, installed=False), "logit_loss")
    assert logit_loss.is_valid("kl")
    assert not logit_loss.is_valid("odd")


def test_each_short_form_is_in_the_schema():
    written = {kind.kind for kind in KINDS if "from_plain" in vars(kind)}
    assert set(json_schema.SHORT_FORMS) == written


def of_kind(registry, kind: str):
    whole = json_schema.json_schema(registry)
    jsonschema.Draft7Validator.check_schema(whole)
    return jsonschema.Draft7Validator({"$ref": f"#/definitions/{kind}", "definitions": whole["definitions"]})
