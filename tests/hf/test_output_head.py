"""The large head of a transformers model: where it is, and what is done to its logits."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from kdspec.hf.output_head import output_head

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 40}


def made(auto, family, **changes):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**SMALL, **changes})
    return getattr(transformers, auto).from_config(config).eval()


@pytest.mark.parametrize(
    ("auto", "family", "changes", "path"),
    [
        ("AutoModelForMaskedLM", "bert", {}, "cls.predictions.decoder"),
        ("AutoModelForMaskedLM", "roberta", {}, "lm_head.decoder"),
        ("AutoModelForCausalLM", "llama", {}, "lm_head"),
        (
            "AutoModelForCausalLM",
            "gemma2",
            {"num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 2.0},
            "lm_head",
        ),
        ("AutoModelForCausalLM", "cohere", {"logit_scale": 0.5}, "lm_head"),
        ("AutoModelForCausalLM", "granite", {"logits_scaling": 4.0}, "lm_head"),
    ],
)
def test_the_head_gives_the_logits_that_the_model_gives(auto, family, changes, path):
    model = made(auto, family, **changes)
    head = output_head(model)
    assert head.path == path
    seen = []
    linear = model.get_submodule(path)
    linear.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ids = torch.arange(5)[None]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        found = head.post(functional.linear(seen[0], linear.weight, linear.bias))
    torch.testing.assert_close(found, logits)


def test_a_model_without_such_a_head_has_none():
    assert output_head(made("AutoModelForSequenceClassification", "bert")) is None
    assert output_head(nn.Linear(2, 3)) is None


def test_a_head_that_is_more_than_a_product_is_none():
    class Quantised(nn.Linear):
        """Another class."""

    model = made("AutoModelForCausalLM", "llama")
    model.set_output_embeddings(Quantised(16, 40))
    assert output_head(model) is None
