"""The number of positions of a family is the longest row that its models take."""

from __future__ import annotations

import pytest
import torch
from tiny_families import configuration

from kdspec.hf.positions import EXACT, positions

UNBUILT = {"bigbird_pegasus", "gpt-sw3", "mvp", "roc_bert"}
COUNTED = ("camembert", "data2vec-text", "esm", "lilt", "longformer", "luke", "mpnet", "roberta", "xlm-roberta", "xmod")
WITHOUT = ("deberta-v2", "llama", "mistral", "modernbert", "qwen2", "t5", "xlnet")
QUICK = ("bart", "bert", "gpt2", "mpnet", "opt", "roberta")
NAMES = ("max_position_embeddings", "n_positions", "max_position")


def limited(family, most=24, **changes):
    known = configuration(family, pad_token_id=0)
    names = {*known.to_dict(), *known.attribute_map}
    entries = {name: most for name in NAMES if name in names and known.attribute_map.get(name) not in names}
    return configuration(family, **{"pad_token_id": 0, **entries, **changes})


def takes(model, length):
    ids = torch.full((1, length), 5)
    ids[0, -1] = 2
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


def check(family, **changes):
    from transformers import AutoModel

    config = limited(family, **changes)
    most = positions(config)
    model = AutoModel.from_config(config).eval()
    assert takes(model, most)
    assert not takes(model, most + 1)


@pytest.mark.parametrize("family", QUICK)
def test_a_row_of_that_length_passes_and_a_longer_one_does_not(family):
    check(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({*EXACT, *COUNTED} - {*QUICK} - UNBUILT))
def test_a_row_of_that_length_passes_in_every_family_and_a_longer_one_does_not(family):
    check(family)


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_a_family_that_counts_from_its_padding_id_has_fewer_positions(padding):
    check("roberta", pad_token_id=padding)


@pytest.mark.parametrize("family", WITHOUT)
def test_relative_and_rotary_positions_have_no_limit(family):
    changes = {"position_biased_input": False, "relative_attention": True} if family == "deberta-v2" else {}
    assert positions(limited(family, **changes)) is None
