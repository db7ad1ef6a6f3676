"""A row alone and beside longer rows has the same answer; a model for which that is not so is found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_stages import texts
from tiny_families import classifier, tokenizer

from kdspec.engine.forward import batch_invariance

ALL = ("float32", "bfloat16", "float16")


@pytest.fixture
def measured(text_stage, tmp_path):
    """The difference of the teacher of a family."""

    def made(family, *sets, **options):
        classifier(family, tmp_path / "teacher", pad_token_id=0)
        tokenizer(tmp_path / "teacher")
        stage = text_stage(*sets, **options)
        return batch_invariance.measure(stage.runners["teacher"], stage.loader), stage

    return made


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_padding_changes_outputs_by_rounding_alone(measured, family, dtype):
    found, _ = measured(family, f"models.teacher.transformers.dtype={dtype}")
    assert not found.exceeds
    assert found.size <= 1e-6 or dtype != "float32"


@pytest.mark.parametrize("dtype", ALL)
def test_a_model_that_reads_padding_is_refused_with_side_ids_and_masks(measured, dtype):
    found, stage = measured("bert", f"models.teacher.transformers.dtype={dtype}")
    teacher = stage.runners["teacher"]
    teacher.accepted -= {"attention_mask"}
    found = batch_invariance.measure(teacher, stage.loader)
    assert found.exceeds
    refused = batch_invariance.refused("texts", teacher, stage.loader, found)
    assert refused.code == "KD517"
    notes = "\n".join(refused.notes)
    assert "padded on the right with id 0; the configuration's `pad_token_id` is 0" in notes
    assert "`input_ids` alone [" in notes
    assert "`attention_mask` alone [1, 1, 1], padded [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]" in notes
    assert "the model does not take `attention_mask`" in notes


def test_rows_of_one_length_have_nothing_to_compare(measured):
    assert measured("bert", rows=texts((4, 4, 4)))[0] is None


def test_hidden_states_are_compared_at_non_padding_positions(measured):
    matches = "stages.distil.distiller.general.matches=[{feature: hidden, loss: hidden_mse, layers: {1: 1}}]"
    found, stage = measured("bert", matches)
    assert not found.exceeds
    found = batch_invariance.measure(stage.runners["student"], stage.loader)
    assert not found.exceeds


def test_a_model_without_numbers_is_refused(measured):
    _, stage = measured("bert")
    with torch.no_grad():
        next(stage.runners["teacher"].module.classifier.parameters()).fill_(float("nan"))
    assert batch_invariance.measure(stage.runners["teacher"], stage.loader).exceeds


def test_random_numbers_and_modes_are_as_before(measured):
    _, stage = measured("bert")
    student = stage.runners["student"]
    student.module.train()
    before = torch.get_rng_state()
    batch_invariance.measure(student, stage.loader)
    assert torch.equal(before, torch.get_rng_state())
    assert student.module.training


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=6), family=st.sampled_from(["bert", "gpt2", "distilbert"])
)
def test_rows_of_any_length_are_invariant_with_the_mask_and_not_without(measured, lengths, family):
    found, stage = measured(family, rows=texts(lengths))
    assert (found is None) == (len(set(lengths)) == 1)
    if found is not None and family != "gpt2":
        assert not found.exceeds
        stage.runners["teacher"].accepted -= {"attention_mask"}
        assert batch_invariance.measure(stage.runners["teacher"], stage.loader).exceeds
