"""Soft labels of a teacher with its largest logits in a cache: the loss between k + 1 outcomes."""

from __future__ import annotations

import pytest
import torch

from .test_same_loss import begun

DISTIL = "stages.distil"
K = 2


@pytest.fixture
def loop(session, shared_registry, tmp_path):
    def made(loss, temperature, cache):
        changes = (
            f"{DISTIL}.distiller.general.soft_labels={{loss: {loss}, temperature: {temperature}}}",
            f"{DISTIL}.distiller.general.hard_labels={{weight: 0}}",
            f"{DISTIL}.distiller.general.matches=[]",
            f"{DISTIL}.training.teacher_cache={cache}",
        )
        return begun(session(*changes).plan, "rows", shared_registry, tmp_path)

    return made


def outcomes(logits, listed, temperature):
    """Of the listed classes, and of all others together, each with the logarithm of its probability."""
    log_p = (logits.double() / temperature).log_softmax(-1)
    rest = log_p.scatter(-1, listed, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_p.gather(-1, listed), rest], -1)


@pytest.mark.parametrize("temperature", [1, 2, 8, "{student: 2, teacher: 8}"])
@pytest.mark.parametrize("loss", ["kl", "ce"])
def test_the_loss_is_between_the_largest_classes_and_all_others_as_one(loss, temperature, loop, tmp_path):
    of_teacher, of_student = (8, 2) if isinstance(temperature, str) else (temperature, temperature)
    for computed in (11, 0):
        made = loop(loss, temperature, f"{{use: on, top_k: {K}, folder: {tmp_path}}}")
        drawn = made._draw(0)[0]
        terms, step = made.terms(0, 0, drawn)
        teacher = drawn.task_inputs.teachers["teacher"](drawn.batches["teacher"]).logits[0].dense()
        listed = teacher.topk(K).indices
        log_p = outcomes(teacher, listed, of_teacher)
        log_q = outcomes(step.student.logits[0].dense(), listed, of_student)
        entropy = (log_p.exp() * log_p).sum(-1) if loss == "kl" else 0.0
        factor = of_student**2 if loss == "kl" else 1
        expected = factor * (entropy - (log_p.exp() * log_q).sum(-1)).mean()
        assert terms["soft_labels"].loss.value.item() == pytest.approx(expected.item(), rel=1e-4)  # float32 is kept
        (cache,) = made.caches
        assert cache.use.computed == computed
        cache.close()


def test_a_cache_for_another_temperature_is_another_one(loop, tmp_path):
    """What the others come to at one temperature does not follow from what they come to at another."""
    caches = [loop("kl", at, f"{{use: on, top_k: {K}, folder: {tmp_path}}}").caches[0] for at in (1, 2)]
    assert caches[0].store.folder != caches[1].store.folder
    for cache in caches:
        cache.close()


def test_all_logits_may_be_read_at_any_temperature_from_one_cache(loop, tmp_path):
    caches = [loop("kl", at, f"{{use: on, folder: {tmp_path}}}").caches[0] for at in (1, 2)]
    assert caches[0].store.folder == caches[1].store.folder
    for cache in caches:
        cache.close()
