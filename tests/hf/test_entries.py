"""Entries of configurations that are known to be wrong before transformers is imported."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.api.kinds.model import ModelContext
from kdspec.builtins.models.transformers import Transformers
from kdspec.hf import entries, families, model_files


def found(tiny, **config):
    models = {"t": Transformers(path="tiny"), "s": Transformers(like="t", config=config)}
    context = ModelContext(folder=tiny.parent, models=models)
    facts = {name: model.facts(context) for name, model in models.items()}
    return list(models["s"].check(replace(context, name="s", facts=facts)))


@pytest.mark.parametrize("family", entries.ENTRIES)
def test_the_entries_of_a_family_are_those_of_the_library(family):
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[family]()
    names = {*config.to_dict(), *config.attribute_map, *(field.name for field in fields(config))}
    every = frozenset().union(*entries.ENTRIES.values())
    assert entries.ENTRIES[family] == names & every


def test_the_families_are_those_with_known_defaults():
    assert entries.ENTRIES.keys() == families.DEFAULTS.keys()


@pytest.mark.parametrize(
    ("key", "near"),
    [("n_layers", "num_hidden_layers"), ("dim", "hidden_size"), ("n_heads", "num_attention_heads"),
     ("layer_norm_epsilon", "layer_norm_eps"), ("classifier_dropout_prob", "classifier_dropout")],
)  # fmt: skip
def test_an_entry_of_another_family_is_corrected(key, near, tiny):
    value = 1 if "dropout" in key else 2
    (fault,) = found(tiny, **{key: value})
    assert (fault.code, fault.at) == ("KD101", ("config", key))
    assert fault.message == f"a bert configuration has no `{key}`"
    assert fault.help == f"did you mean `{near}`?"
    assert found(tiny, **{near: value}) == []


@pytest.mark.parametrize(
    ("key", "near"),
    [("layers", "num_hidden_layers"), ("n_layerss", "num_hidden_layers"), ("num_headss", "num_attention_heads"),
     ("hiden_size", "hidden_size")],
)  # fmt: skip
def test_a_misspelt_entry_is_corrected_to_that_of_the_family(key, near, tiny):
    (fault,) = found(tiny, **{key: 2})
    assert fault.help == f"did you mean `{near}`?"
    assert found(tiny, **{near: 2}) == []


@given(rate=st.floats(-3, 3))
def test_a_dropout_rate_is_a_probability(rate):
    faults = list(entries.out_of_range({"hidden_dropout_prob": rate}))
    assert bool(faults) == (not 0 <= rate <= 1)


@pytest.mark.parametrize(
    ("config", "code"),
    [({"hidden_dropout_prob": 2}, "KD104"), ({"hidden_dropout_prob": "0.1"}, "KD103"), ({"layer_norm_eps": 0}, "KD104"),
     ({"attention_probs_dropout_prob": True}, "KD103")],
)  # fmt: skip
def test_values_out_of_range_are_known_at_once(config, code, tiny):
    (fault,) = found(tiny, **config)
    assert fault.code == code


def test_a_classifier_may_have_no_dropout_of_its_own(tiny):
    assert found(tiny, classifier_dropout=None) == []


def test_a_vocabulary_smaller_than_the_tokenizer_is_known_at_once(tiny):
    (fault,) = found(tiny, vocab_size=10)
    assert fault.message == "the tokenizer has 20 tokens, the model 10"
    assert fault.at == ("config", "vocab_size")
    assert found(tiny, vocab_size=20) == []


@pytest.mark.parametrize(
    ("name", "content", "tokens"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\na\n", 3),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 1}, {"id": 2}]}', 3),
        ("tokenizer.json", '{"model": {"vocab": [["a", 0.0], ["b", -1.0]]}}', 2),
        ("tokenizer.json", "{", None),
        ("spm.model", "", None),
    ],
)
def test_the_tokens_of_a_tokenizer_are_counted_without_the_library(name, content, tokens, tmp_path):
    (tmp_path / name).write_text(content)
    assert model_files.tokens_of(tmp_path) == tokens
