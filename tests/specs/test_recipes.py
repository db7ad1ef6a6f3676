"""The recipes compute what the code of their papers' authors computes."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional

from kdspec import BuildContext
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import load_registry
from kdspec.source.extends import load

DEEP = (
    "models.teacher={transformers: {config: {model_type: bert, num_hidden_layers: 12, vocab_size: 100}}}",
    "models.student.transformers.config.num_hidden_layers=6",
    "models.student.transformers.initialize.layers=[0, 1, 2, 3, 4, 5]",
)


def of_the_comment(path):
    """The matches that the recipe's comment has for BERT-base."""
    (found,) = re.findall(r"--set '(stages[^']*)'", path.read_text(encoding="utf-8"))
    return re.sub(r"\n# +", " ", found)


def matches_of(path, *sets):
    made = prepare(load(path, sets=sets, environ={}), load_registry(installed=False))
    assert made.plan is not None, made.errors
    (task,) = made.plan.stages[-1].tasks.values()
    return task.matches


def states(layers, seed, rows=6, length=5, width=384):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, length, width, generator=generator, dtype=torch.float64) for _ in range(layers)]


def patience(student, teacher, pairs, beta=100.0):
    """`PKD-for-BERT-Model-Compression`, `distillation_loss` with `normalized_patience`: F.mse_loss over rows, layers, width."""
    t = torch.stack([teacher[at][:, 0] for at, _ in pairs], 1)
    s = torch.stack([student[at][:, 0] for _, at in pairs], 1)
    return beta * functional.mse_loss(functional.normalize(t, p=2, dim=2), functional.normalize(s, p=2, dim=2))


@pytest.mark.parametrize("deep", [False, True], ids=["as it is", "as its comment has BERT-base"])
def test_the_patience_term_is_that_of_the_authors_code_at_a_beta_of_100(deep, small_library, monkeypatch):
    path = small_library / "recipes" / "pkd.yaml"
    monkeypatch.chdir(path.parent)
    pairs = [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)] if deep else [(2, 1), (4, 2)]
    teacher, student = states(13, seed=0), states(7, seed=1)
    student = [layer.requires_grad_() for layer in student]
    total, found = torch.zeros((), dtype=torch.float64), []
    for match in matches_of(path.name, *((*DEEP, of_the_comment(path)) if deep else ())):
        ((t, s),) = zip(match.teacher_layers, match.student_layers, strict=True)
        found.append((t, s))
        loss, weight = match.loss.build(BuildContext()), match.weight.build(BuildContext())
        total = total + weight(0.0) * loss(student[s], teacher[t], mask=torch.ones(6, 5)).value
    assert found == pairs
    assert total.item() > 0
    theirs = patience(student, teacher, pairs)
    assert total.item() == pytest.approx(theirs.item(), rel=1e-6)
    ours, wanted = (torch.autograd.grad(value, student[1], retain_graph=True)[0] for value in (total, theirs))
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=0)
