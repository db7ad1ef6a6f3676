"""Dropout from a generator of a thread's own."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdspec.engine.step.lanes.dropout import LaneDropout


@pytest.fixture
def draws():
    made = LaneDropout()
    made.seed(3)
    return made


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_much_is_dropped_as_is_asked_for(draws, p):
    ones = torch.ones(300, 501)
    with draws:
        dropped = functional.dropout(ones, p)
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert len(dropped.unique()) == 2


def test_the_same_seed_draws_the_same_and_the_next_numbers_differ(draws):
    ones = torch.ones(40, 7, dtype=torch.bfloat16)
    with draws:
        first, second = nn.Dropout(0.3)(ones), torch.dropout(ones, 0.3, True)
        draws.seed(3)
        again = functional.dropout(ones, 0.3)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert first.dtype == torch.bfloat16


def test_the_global_generator_is_left_alone(draws):
    before = torch.get_rng_state()
    values = torch.ones(2, 3, 4, 5, requires_grad=True)
    with draws:
        functional.scaled_dot_product_attention(functional.dropout(values, 0.5), values, values, dropout_p=0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_dropped_with_the_values(draws):
    values = torch.ones(50, requires_grad=True)
    with draws:
        dropped = functional.dropout(values, 0.4)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_without_dropout_the_values_are_unchanged(draws, p, training):
    values = torch.randn(4, 4)
    with draws:
        assert functional.dropout(values, p, training) is values


def test_everything_may_be_dropped(draws):
    with draws:
        assert not functional.dropout(torch.ones(9), 1.0).any()


def test_values_may_be_dropped_where_they_are(draws):
    values = torch.ones(100)
    with draws:
        functional.dropout(values, 0.5, inplace=True)
    assert 0 < (values == 0).sum() < 100


def test_other_threads_draw_as_ever(draws):
    ones, found = torch.ones(64), []

    def other():
        torch.manual_seed(5)
        found.append(functional.dropout(ones, 0.5))

    with draws:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    torch.manual_seed(5)
    assert torch.equal(found[0], functional.dropout(ones, 0.5))


class TestAttention:
    """That of torch, for which dropout is drawn otherwise."""

    NONE_DROPPED = 1e-6
    """A probability that is rounded to 0."""

    @pytest.fixture
    def parts(self):
        torch.manual_seed(0)
        return [torch.randn(2, 4, 5, 8, dtype=torch.float64) for _ in range(3)]

    @pytest.mark.parametrize("mask", [None, "booleans", "numbers"])
    @pytest.mark.parametrize(("dtype", "scale"), [("float64", None), ("float64", 0.5), ("bfloat16", None)])
    def test_it_has_the_same_numbers(self, draws, parts, mask, dtype, scale):
        parts = [part.to(getattr(torch, dtype)) for part in parts]
        masks = {
            None: None,
            "booleans": torch.tensor([True, True, False, True, False]).expand(2, 1, 5, 5),
            "numbers": torch.randn(2, 1, 5, 5, dtype=parts[0].dtype),
        }
        expected = functional.scaled_dot_product_attention(*parts, masks[mask], self.NONE_DROPPED, scale=scale)
        with draws, torch.autocast("cpu", torch.bfloat16):
            found = functional.scaled_dot_product_attention(*parts, masks[mask], self.NONE_DROPPED, scale=scale)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    def test_tokens_may_see_none_after_them(self, draws, parts):
        expected = functional.scaled_dot_product_attention(*parts, is_causal=True)
        with draws:
            found = functional.scaled_dot_product_attention(*parts, dropout_p=self.NONE_DROPPED, is_causal=True)
        torch.testing.assert_close(found, expected)

    def test_heads_may_share_keys(self, draws, parts):
        query, key, value = parts[0], parts[1][:, :2], parts[2][:, :2]
        expected = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        with draws:
            found = functional.scaled_dot_product_attention(
                query, key, value, dropout_p=self.NONE_DROPPED, enable_gqa=True
            )
        torch.testing.assert_close(found, expected)

    def test_a_fully_masked_query_has_zeros(self, draws, parts):
        with draws:
            found = functional.scaled_dot_product_attention(*parts, torch.zeros(5, 5, dtype=torch.bool), 0.5)
        assert not found.any()

    def test_without_dropout_it_is_torchs(self, draws, parts):
        expected = functional.scaled_dot_product_attention(*parts)
        with draws:
            assert torch.equal(functional.scaled_dot_product_attention(*parts), expected)

    def test_weights_are_dropped(self, draws):
        value = torch.ones(1, 1, 400, 2)
        with draws:
            found = functional.scaled_dot_product_attention(
                torch.zeros_like(value), torch.zeros_like(value), value, dropout_p=0.5
            )
        assert found.mean().item() == pytest.approx(1, abs=0.02)
        assert found.std().item() == pytest.approx(400**-0.5, rel=0.3)
