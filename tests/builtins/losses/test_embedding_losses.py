"""The losses between embeddings as components: parameters, widths, scopes, and runs of specs that name them."""

from __future__ import annotations

import pytest
import torch

from kdspec import BuildContext
from kdspec.builtins.losses.embedding_losses import Contrastive, kdspec_components
from kdspec.builtins.losses.feature_losses import CosineLoss
from kdspec.diagnostics.finding import FindingError
from kdspec.events import StepDone
from kdspec.ops.features import cosine

LOSSES = {component.name: component for component in kdspec_components()}
GENERAL = "stages.distil.distiller.general"
ADAPTORS = ("adaptors.teacher.embedding=output.embedding", "adaptors.student.embedding=output.embedding")


def matched(loss, *more):
    return (*ADAPTORS, f"{GENERAL}.matches=[{{feature: embedding, loss: {loss}}}]", *more)


def test_losses_that_compare_rows_have_the_scope_of_a_step_and_the_others_of_a_row():
    rows = {name for name, loss in LOSSES.items() if loss.scope == "row"}
    assert rows == {"embedding_mse", "embedding_l2"}
    assert all(loss.scope == "step" for name, loss in LOSSES.items() if name not in rows)


def test_losses_of_similarities_need_no_equal_widths():
    free = {name for name, loss in LOSSES.items() if not loss.same_width}
    assert free == {"similarity_mse", "similarity_kl", "triplet_order", "cosent"}
    for name in free:
        found = LOSSES[name]().build(BuildContext())(torch.randn(4, 3), torch.randn(4, 7), mask=None)
        assert found.isfinite()


def test_no_loss_of_embeddings_needs_the_same_tokens():
    assert not any(loss.compares_positions for loss in LOSSES.values())


def test_cos_takes_hidden_states_and_embeddings():
    loss = CosineLoss().build(BuildContext())
    student, teacher, mask = torch.randn(3, 5), torch.randn(3, 5), torch.ones(3, 9)
    assert loss(student, teacher, mask=mask).value == cosine(student[:, None], teacher[:, None]).value


@pytest.mark.parametrize("loss", ["cos", "embedding_mse", "embedding_l2", "similarity_kl"])
def test_a_run_with_a_loss_of_embeddings_projects_the_student_where_it_must(loss, launch):
    ran = launch(*matched(loss))
    term = f"embedding.{loss}.all"
    assert all(step.terms[term] >= 0 for step in ran.of(StepDone))
    projected = any("projection" in name for name in ran.checkpoint(6))
    assert projected == (loss != "similarity_kl")


def test_a_step_larger_than_the_queue_is_an_error_at_the_loss(launch):
    with pytest.raises(FindingError, match="a step of 4 rows does not fit into a queue of 3") as caught:
        launch(*matched("{contrastive: {queue: 3}}"))
    (found,) = caught.value.findings
    assert found.code == "KD516"
    assert found.at[-3:] == ("matches", 0, "loss")
    assert "queue: 16" in found.help


def test_a_queue_is_a_buffer_of_the_built_loss():
    loss = Contrastive(queue=8).build(BuildContext())
    assert {name for name, _ in loss.named_buffers()} == {"vectors", "steps"}
    assert not list(loss.parameters())
