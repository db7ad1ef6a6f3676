"""One vector a token: the mean of a text by hand, what padding and special tokens do, and the gradient of a large table."""

from __future__ import annotations

import pytest
import torch

from kdspec.engine.step.embedding_gradients import LEAST, InPlace
from kdspec.networks.static_embeddings import StaticEmbeddings

IDS = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 0, 0], [7, 0, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


def static(**changes):
    torch.manual_seed(0)
    sizes = {"vocabulary": 9, "embedding": 4, "normalize": False, "weights": True, "head": True, "classes": 2}
    made = StaticEmbeddings(**sizes | {"ignored": [2, 7]} | changes).double().eval()
    if made.weights is not None:
        torch.nn.init.uniform_(made.weights, 0.5, 2)
    return made


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_an_embedding_is_the_mean_of_the_vectors_that_are_counted(normalize, weights):
    made = static(normalize=normalize, weights=weights)
    rows = made.embeddings.weight * (made.weights[:, None] if weights else 1)
    expected = torch.stack([rows[[3, 1, 4, 1, 5]].mean(0), rows[[6, 5]].mean(0), torch.zeros(4).double()])
    if normalize:
        expected /= expected.norm(dim=1, keepdim=True).clamp_min(1e-12)
    found = made(IDS, MASK)
    torch.testing.assert_close(found["embedding"], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["logits"], made.head(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["hidden_states"][0][0], made.embeddings(IDS[0]))


def test_padding_on_either_side_changes_nothing():
    made = static()
    alone = made(IDS[1:2, :3])["embedding"]
    left = made(torch.tensor([[8, 8, 2, 6, 5]]), torch.tensor([[0, 0, 1, 1, 1]]))["embedding"]
    torch.testing.assert_close(made(IDS, MASK)["embedding"][1:2], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(left, alone, rtol=1e-12, atol=1e-12)


def test_a_text_without_a_token_that_counts_has_the_embedding_0_and_a_finite_gradient():
    made = static(normalize=True, head=False)
    found = made(IDS[2:], MASK[2:])
    assert found["embedding"].tolist() == [[0.0] * 4]
    assert "logits" not in found
    found["embedding"].sum().backward()
    assert made.embeddings.weight.grad.abs().sum() == 0


def test_a_long_text_is_counted_exactly_in_half_precision():
    made = static(weights=False).to(torch.bfloat16)
    made.embeddings.weight.data.fill_(1)
    assert made(torch.full((1, 3000), 3))["embedding"].tolist() == [[1.0] * 4]


def test_the_gradient_of_a_large_table_is_added_in_place_and_is_that_of_torch():
    made = static(vocabulary=LEAST // 4, weights=False)
    made(IDS, MASK)["logits"].square().sum().backward()
    expected, made.embeddings.weight.grad = made.embeddings.weight.grad, None
    with InPlace(made):
        found = made(IDS, MASK)["logits"]
        assert type(found.grad_fn).__name__ == "AddmmBackward0"
        found.square().sum().backward()
    torch.testing.assert_close(made.embeddings.weight.grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", [False, True])
def test_a_projection_is_folded_into_the_vectors(weights):
    made = static(projected=6, weights=weights, normalize=True)
    expected = made(IDS, MASK)
    assert expected["embedding"].shape == (3, 6)
    made.fold()
    found = made(IDS, MASK)
    assert [name for name, _ in made.named_parameters()] == ["embeddings.weight", "head.weight", "head.bias"]
    torch.testing.assert_close(found["embedding"], expected["embedding"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["logits"], expected["logits"], rtol=1e-12, atol=1e-12)
