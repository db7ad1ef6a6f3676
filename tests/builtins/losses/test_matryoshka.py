"""Prefixes of embeddings: the sum of the wrapped loss over the widths, and what cannot be wrapped."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from kdspec import BuildContext
from kdspec.builtins.losses.embedding_losses import Contrastive, EmbeddingMse, SimilarityMse, TripletOrder
from kdspec.builtins.losses.feature_losses import CosineLoss, HiddenMse, Pkd
from kdspec.builtins.losses.matryoshka import Matryoshka
from kdspec.builtins.losses.relation_losses import MiniLMv2
from kdspec.diagnostics.fault import Fault
from kdspec.ops.embeddings.losses import contrastive, embedding_mse, similarity_mse
from kdspec.ops.features import cosine

STUDENT, TEACHER = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()


def built(loss, widths, weights=None):
    return Matryoshka(loss=loss, widths=widths, weights=weights).build(BuildContext())


def test_a_loss_of_rows_stays_a_mean_over_rows():
    found = built(CosineLoss(), [2, 8])(STUDENT, TEACHER, mask=torch.ones(5, 3))
    expected = cosine(STUDENT[:, :2], TEACHER[:, :2]).value + cosine(STUDENT, TEACHER).value
    torch.testing.assert_close(found.value, expected)
    assert (found.count, found.per) == (5.0, "rows")


def test_each_width_has_its_weight():
    found = built(EmbeddingMse(), [4, 2], [0.5, 3.0])(STUDENT, TEACHER)
    four, two = (embedding_mse(STUDENT[:, :width], TEACHER[:, :width]).value for width in (4, 2))
    torch.testing.assert_close(found.value, 0.5 * four + 3.0 * two)


def test_similarities_of_a_prefix_are_compared_with_those_of_the_teachers_whole_vectors():
    wide = torch.randn(5, 11, dtype=torch.float64)
    expected = similarity_mse(STUDENT[:, :3], wide) + similarity_mse(STUDENT, wide)
    torch.testing.assert_close(built(SimilarityMse(), [3, 8])(STUDENT, wide), expected)


def test_each_width_has_a_queue_of_its_own():
    loss = built(Contrastive(temperature=0.1, queue=10), [3, 8])
    loss(TEACHER, STUDENT)
    earlier = torch.nn.functional.normalize
    expected = sum(
        contrastive(STUDENT[:, :width], TEACHER[:, :width], 0.1, earlier(STUDENT[:, :width])) for width in (3, 8)
    )
    torch.testing.assert_close(loss(STUDENT, TEACHER), expected)
    assert set(loss.state_dict()) == {f"losses.{width}.{name}" for width in (3, 8) for name in ("vectors", "steps")}


def test_scope_and_widths_are_those_of_the_wrapped_loss():
    cos, mse, order = (Matryoshka(loss=loss, widths=[2]) for loss in (CosineLoss(), EmbeddingMse(), TripletOrder()))
    assert [each.scope for each in (cos, mse, order)] == ["row", "row", "step"]
    assert [each.same_width for each in (cos, mse, order)] == [True, True, False]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (HiddenMse(), "`hidden_mse` is a loss for `hidden`, not for prefixes of `embedding`"),
        (Pkd(), "`pkd` is a loss for `hidden`"),
        (MiniLMv2(), "`minilm_v2` compares pairs of layers, not embeddings"),
        (Matryoshka(loss=CosineLoss(), widths=[2]), "`matryoshka` cannot be wrapped again"),
    ],
)
def test_a_loss_of_other_features_cannot_be_wrapped(loss, message):
    with pytest.raises(ValidationError, match=message) as caught:
        Matryoshka(loss=loss, widths=[2])
    assert caught.value.errors()[0]["loc"] == ("loss",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": [2, 2]}, "each width is listed once"),
        ({"widths": []}, "at least 1 item"),
        ({"widths": [0]}, "greater than 0"),
        ({"widths": [2, 4], "weights": [1.0]}, "write a weight for each of the 2 widths"),
        ({"widths": [2], "weights": [0.0]}, "greater than 0"),
    ],
)
def test_widths_and_weights_that_do_not_fit_are_errors(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Matryoshka(loss=CosineLoss(), **wrong)


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT[:, :6], TEACHER[:, :6]), (STUDENT[:, :6], TEACHER)])
def test_a_prefix_wider_than_the_vectors_is_an_error(student, teacher):
    loss = CosineLoss() if student.shape == teacher.shape else SimilarityMse()
    with pytest.raises(Fault, match="the vectors are 6 wide, and a prefix of them cannot be 8 wide") as caught:
        built(loss, [4, 8])(student, teacher)
    assert caught.value.help == "write widths up to 6"
