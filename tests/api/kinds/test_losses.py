"""The kinds of loss: what a divergence gets from its base class."""

from __future__ import annotations

import pytest
import torch

from kdspec import BuildContext, Divergence, load_registry
from kdspec.ops.divergence import kl


class Reverse(Divergence):
    """KL divergence of the teacher from the student. Mean over positions; T² is included."""

    name = "reverse"

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p)).sum(-1)


class Plain(Reverse):
    """The same without T²."""

    name = "plain"
    squares_temperature = False


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_divergence_is_a_loss_between_logits_with_temperature_and_mean():
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    found = Reverse().build(BuildContext())(student, teacher, temperature=2.0)
    log_p, log_q = (teacher / 2).log_softmax(-1), (student / 2).log_softmax(-1)
    torch.testing.assert_close(found.total, 4 * (log_q.exp() * (log_q - log_p)).sum())
    assert (found.count, found.per) == (4.0, "labels")


def test_a_divergence_states_whether_it_has_the_factor_of_the_squared_temperature():
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    each = torch.tensor([1.0, 2.0, 3.0, 4.0])
    squared = Reverse().build(BuildContext())(student, teacher, temperature=each)
    rows = [Plain().build(BuildContext())(s, t, temperature=float(T)).total * T**2 for s, t, T in zip(
        student[:, None], teacher[:, None], each, strict=True)]  # fmt: skip
    torch.testing.assert_close(squared.total, torch.stack(rows).sum())


@pytest.mark.parametrize("name", ["ce", "kl"])
def test_values_and_whole_logits_give_the_same(name):
    student, teacher = draw(6, 5), draw(6, 5, seed=1)
    loss = load_registry().get("logit_loss", name)().build(BuildContext())
    whole = loss(student, teacher, temperature=3.0)
    parts = loss.mean((teacher / 3).log_softmax(-1), (student / 3).log_softmax(-1), 3.0)
    torch.testing.assert_close(parts.value, whole.value, rtol=1e-12, atol=0)


def test_kl_has_the_last_digits_that_it_had():
    student, teacher = draw(50, 30).float(), draw(50, 30, seed=1).float()
    log_p, log_q = (teacher / 4.0).log_softmax(-1), (student / 4.0).log_softmax(-1)
    p = log_p.exp()
    rows = (p * torch.where(p > 0, log_p - log_q, 0.0)).sum(-1, keepdim=True)
    assert torch.equal(kl(student, teacher, 4.0).total, (rows * 4.0**2).sum())
