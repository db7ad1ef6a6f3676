"""What a configuration says without transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from kdspec.api.kinds.model import ModelFacts
from kdspec.api.spec.model_folders import read_json
from kdspec.hf import families


@pytest.mark.parametrize("family", families.DEFAULTS)
def test_the_defaults_are_those_of_the_library(family):
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[family]()
    expected = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    assert families.DEFAULTS[family] == expected
    known = families.facts({"model_type": family})
    assert replace(known, vocabulary=config.vocab_size) == families.facts(config.to_dict())


@pytest.mark.parametrize("family", families.DEFAULTS)
def test_what_the_library_writes_is_read(family, tmp_path):
    from transformers import CONFIG_MAPPING

    sizes = {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 6}
    written = CONFIG_MAPPING[family](**sizes)
    written.save_pretrained(tmp_path)
    expected = ModelFacts(layers=3, width=24, heads=6, family=family, vocabulary=written.vocab_size)
    assert families.facts(read_json(tmp_path / "config.json")) == expected


def test_an_unknown_family_has_only_what_is_written():
    known = families.facts({"model_type": "novel", "hidden_size": 5})
    assert known == ModelFacts(family="novel", width=5, scope="micro_batch")
    assert families.facts({}) == ModelFacts()


@pytest.mark.parametrize("value", ["6", 0, -1, True, 1.5, None, [6], {}])
def test_a_value_that_makes_no_sense_is_unknown(value):
    assert families.facts({"model_type": "bert", "num_hidden_layers": value}).layers is None


def test_changes_win():
    before = families.facts({"model_type": "gpt2"})
    assert families.changed(before, {"n_layer": 2, "n_embd": 8}) == ModelFacts(
        layers=2, width=8, heads=12, family="gpt2"
    )
    assert families.changed(before, {"vocab_size": 9}).vocabulary == 9


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}}', "[" * 100_000, "\xff\xfe"])
def test_a_malformed_file_gives_no_facts(text, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(text, encoding="latin-1")
    assert families.facts(read_json(file)) == ModelFacts()


def test_a_missing_file_gives_no_facts(tmp_path):
    assert read_json(tmp_path / "config.json") == {}
    assert read_json(tmp_path) == {}


def test_facts_of_a_model_import_neither_torch_nor_transformers(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    code = f"""
import sys
from dataclasses import replace
from pathlib import Path
from kdspec.builtins.models.transformers import Transformers
from kdspec.api.kinds.model import ModelContext
local, hub = Transformers(path={str(tmp_path)!r}), Transformers(path="owner/name")
context = ModelContext(models={{"local": local, "hub": hub}})
assert local.facts(context).layers == 12
assert hub.facts(context).layers is None
assert local.tokenizer_id(context) is None
assert hub.tokenizer_id(context) == "owner/name@main"
print(sorted({{"torch", "transformers", "datasets"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


OF_CLASSES = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


@pytest.mark.parametrize(
    ("written", "classes", "labels", "problem"),
    [
        ({}, 2, (), None),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": "regression"}, 1, (), "regression"),
        ({"id2label": {"0": "no", "1": "yes"}}, 2, ("no", "yes"), None),
        ({"num_labels": 5}, 5, (), None),
        ({"problem_type": ["regression"]}, 2, (), None),
    ],
)
def test_the_head_in_the_files_is_known_by_its_classes_their_names_and_its_problem(written, classes, labels, problem):
    known = families.facts({**OF_CLASSES, **written})
    assert (known.classes, known.labels, known.problem) == (classes, labels, problem)


def test_a_body_has_no_problem():
    assert families.facts({"model_type": "bert", "problem_type": "regression"}).problem is None
