"""Losses between embeddings against the functions of other libraries: their recorded values, and sentence-transformers itself.

The recorded values are those of RAG-Retrieval at 4193c8c, the training code of Jasper and Stella, and of distill-embeddings
at e94393c: `record_goldens.py` prints them.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from kdspec import BuildContext
from kdspec.builtins.matching.compat_presets import SentenceTransformersEmbedDistill, SentenceTransformersMse
from kdspec.ops.embeddings.losses import contrastive, cosines, similarity_kl, similarity_mse
from kdspec.ops.embeddings.similarity_order import cosent, triplet_order
from kdspec.ops.features import cosine
from kdspec.ops.mean import Mean
from kdspec.registry.registry import load_registry

REGISTRY = load_registry()


def gen(shape, a, b):
    size = torch.Size(shape)
    return (2 * torch.sin(a * torch.arange(size.numel(), dtype=torch.float64) ** 1.5 + b)).reshape(size)


STUDENT, TEACHER, EARLIER = gen((7, 6), 0.31, 0.2), gen((7, 6), 0.53, 0.4), gen((5, 6), 0.37, 0.5)


def test_the_losses_of_jasper_and_stella():
    assert cosine(STUDENT, TEACHER).value.item() == pytest.approx(1.1074971471119777, rel=1e-9)
    assert similarity_mse(STUDENT, TEACHER).item() == pytest.approx(0.28059819016504467, rel=1e-9)
    assert triplet_order(STUDENT, TEACHER, 0.015).item() == pytest.approx(0.2919747836516761, rel=1e-9)


def test_jasper_compares_a_prefix_of_the_student_with_the_whole_vector_of_the_teacher():
    wrapped = {"loss": "similarity_mse", "widths": [4]}
    loss = REGISTRY.get("feature_loss", "matryoshka").model_validate(wrapped, context={"registry": REGISTRY})
    found = loss.build(BuildContext())(STUDENT, TEACHER)
    assert found.item() == pytest.approx(0.2820710923809657, rel=1e-9)


@pytest.mark.parametrize(("temperature", "expected"), [(2.0, 0.10219434648752213), (0.05, 0.006230946630239487)])
def test_the_divergence_of_similarities_in_a_batch(temperature, expected):
    """The other library computes it in float32."""
    assert similarity_kl(STUDENT, TEACHER, temperature, diagonal=True).item() == pytest.approx(expected, rel=2e-6)


def test_contrastive_distillation_with_and_without_a_queue():
    assert contrastive(STUDENT, TEACHER, 0.05).item() == pytest.approx(16.272811691795592, rel=1e-9)
    found = contrastive(STUDENT, TEACHER, 0.05, normalize(EARLIER))
    assert found.item() == pytest.approx(17.72453337879301, rel=1e-9)


def gradient(function, student):
    leaf = student.clone().requires_grad_()
    found = function(leaf)
    found = found.value if isinstance(found, Mean) else found
    return found.detach(), torch.autograd.grad(found, leaf)[0]


def same(ours, theirs, student):
    for mine, other in zip(gradient(ours, student), gradient(theirs, student), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def vectors(seed, width=48):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 16, width, generator=generator).unbind()


def loss_of(preset):
    (match,) = preset.build(BuildContext())
    assert match["feature"] == "embedding"
    written = match["loss"]
    name, parameters = (written, {}) if isinstance(written, str) else next(iter(written.items()))
    return REGISTRY.get("feature_loss", name)(**parameters).build(BuildContext())


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2", "mse"])
@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_a_preset_is_the_embed_distill_loss_of_sentence_transformers(metric, scale):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    student, teacher = (scale * each for each in vectors(0))
    theirs = losses.EmbedDistillLoss(nn.Identity(), distance_metric=metric)
    ours = loss_of(SentenceTransformersEmbedDistill(metric=metric))
    same(lambda of: ours(of, teacher), lambda of: theirs.compute_loss_from_embeddings([of], [teacher]), student)


@pytest.mark.slow
def test_a_preset_is_the_mse_loss_of_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    student, teacher = vectors(1)
    theirs, ours = losses.MSELoss(nn.Identity()), loss_of(SentenceTransformersMse())
    same(lambda of: ours(of, teacher), lambda of: theirs.compute_loss_from_embeddings([of], [teacher]), student)


@pytest.mark.slow
def test_cosent_is_the_cosent_loss_of_sentence_transformers_for_all_pairs_of_rows():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    student, teacher = vectors(2)
    first, second = torch.triu_indices(16, 16, 1)
    labels = cosines(teacher)[first, second]
    theirs = losses.CoSENTLoss(nn.Identity())
    pairs = lambda of: theirs.compute_loss_from_embeddings([of[first], of[second]], labels)  # noqa: E731 - as the others
    same(lambda of: cosent(of, teacher, 20.0), pairs, student)
