"""Features that are lists of layers, and those that are one tensor."""

from __future__ import annotations

import pytest

from kdspec.planning.layer_counts import count, is_layered


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("output.hidden_states", True),
        ("output.attentions[1:]", True),
        ("output.encoder.decoder_hidden_states", True),
        ("output.attention_scores", True),
        ("output.cross_attention_scores[0]", False),
        ("output.hidden_states[-1]", False),
        ("output.last_hidden_state", False),
        ("output.logits", False),
        ("output.hidden", None),
        ("output[2]", None),
        ('modules["a"].output', None),
        (["output.start_logits", "output.end_logits"], None),
    ],
)
def test_layers_are_distinguished_from_tensors_by_transformers_names(path, answer):
    assert is_layered(path) is answer


@pytest.mark.parametrize(
    ("feature", "path", "layers", "answer"),
    [
        ("hidden", "output.hidden_states", 6, 7),
        ("hidden", "output.hidden_states[1:]", 6, 6),
        ("attention", "output.attentions", 6, 6),
        ("attention", "output.attentions[::2]", 6, 3),
        ("attention_scores", "output.attention_scores", 6, 6),
        ("hidden", "output.hidden_states", None, None),
        ("hidden", "output.hidden_states[0]", 6, None),
        ("other", "output.hidden_states", 6, None),
        ("hidden", "batch.hidden", 6, None),
    ],
)
def test_layers_are_counted_with_the_embedding_output(feature, path, layers, answer):
    assert count(feature, path, layers) == answer
