"""What TextBrewer does, statement by statement, and which test shows that it is so here, or else on purpose is not."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from kdspec.engine.run.triggers import Triggers

ROOT = Path(__file__).parent.parent.parent
RUNS = "tests/properties/test_textbrewer.py"
GOLDEN = "tests/golden/test_trajectory.py"
VALUES = "tests/ops/test_golden.py"
CACHE = "tests/engine/teacher_cache/test_cache.py"

SHOWN = {
    1: [
        f"{RUNS}::test_the_total_is_the_weighted_sum_of_soft_labels_matches_and_hard_labels",
        f"{GOLDEN}::test_all_terms_of_the_first_step_are_as_recorded",
    ],
    2: [f"{RUNS}::test_soft_cross_entropy_has_no_t_squared_and_the_gradient_of_kl", f"{VALUES}::test_logit_losses"],
    3: [
        f"{RUNS}::test_a_temperature_for_each_row_is_taken",
        f"{RUNS}::test_a_temperature_for_each_token_is_taken",
        f"{VALUES}::test_logit_losses",
    ],
    4: [f"{RUNS}::test_heads_are_summed_and_named", f"{RUNS}::test_differing_numbers_of_heads_are_an_error"],
    5: [f"{RUNS}::test_a_mask_of_logits_gives_the_mean_over_the_kept_tokens_of_the_batch"],
    6: [
        f"{RUNS}::test_a_mask_on_one_side_only_is_an_error",
        f"{RUNS}::test_one_mask_serves_many_heads",
        f"{RUNS}::test_the_probability_shift_respects_mask_and_missing_labels",
        "tests/ops/test_probability_shift.py::test_the_largest_goes_to_the_label_and_negative_labels_change_nothing",
    ],
    7: [
        f"{RUNS}::test_hard_losses_are_the_students_own",
        f"{RUNS}::test_several_hard_losses_are_the_sum_of_their_means",
        f"{RUNS}::test_a_loss_of_weight_0_is_not_computed",
    ],
    8: [
        f"{RUNS}::test_several_teachers_are_the_mean_of_their_raw_logits_for_each_head_then_one_loss",
        "tests/builtins/strategies/test_multi_teacher.py::test_probabilities_at_the_temperature_are_averaged",
        "tests/builtins/strategies/test_multi_teacher.py::test_losses_are_terms_of_their_own_with_the_teachers_weights",
    ],
    9: [
        f"{RUNS}::test_each_micro_batch_samples_a_task_in_proportion_to_its_batches_to_the_power_of_tau",
        "tests/engine/batches/test_task_sampler.py::test_tasks_are_sampled_in_the_proportions_of_sampling",
        "tests/engine/step/test_multi_task.py::test_terms_have_the_name_and_the_weight_of_their_task",
    ],
    10: [
        f"{RUNS}::test_projections_begin_small_without_a_bias_in_a_group_of_their_own",
        f"{RUNS}::test_matches_are_masked_with_the_students_mask",
        "tests/engine/step/test_training_loop.py::test_clipping_is_by_the_norm_of_all_or_of_the_student",
        f"{GOLDEN}::test_final_weights_are_those_of_the_repository_version",
    ],
    11: [f"{VALUES}::test_feature_losses"],
    12: [f"{GOLDEN}::test_the_release_divides_masked_gram_matrices_by_the_length"],
    13: [
        f"{RUNS}::test_attention_layers_are_counted_from_0",
        "tests/ops/test_attention.py::test_clipping_is_for_scores_without_a_mask",
        "tests/ops/test_attention.py::test_scores_and_their_softmax_are_the_same_to_the_cross_entropy",
        "tests/cli/commands/test_import_textbrewer.py::test_attention_is_counted_from_0",
    ],
    14: [
        f"{GOLDEN}::test_the_weight_of_the_soft_labels_decays_with_the_steps_done",
        f"{RUNS}::test_a_schedule_is_a_function_of_the_steps_done_and_does_not_change_the_spec",
        "tests/cli/commands/test_import_textbrewer.py::test_the_weight_that_a_schedule_replaces_is_noted",
    ],
    15: [
        f"{VALUES}::test_temperatures_g5_g7",
        "tests/ops/test_temperature.py::test_no_temperature_is_below_the_minimum",
    ],
    16: [
        f"{GOLDEN}::test_every_micro_batch_has_the_loss_of_the_repository_version",
        f"{RUNS}::test_the_learning_rate_changes_once_a_step_however_many_micro_batches_it_has",
        "tests/engine/step/test_normalization.py::test_the_mean_of_means_is_that_of_the_micro_batches",
    ],
    17: [f"{RUNS}::test_the_remainder_of_an_epoch_is_a_step_too"],
    18: [
        "tests/docs/test_textbrewer_statements.py::test_checkpoints_are_at_the_steps_of_textbrewer",
        "tests/cli/commands/test_import_textbrewer.py::test_checkpoints_are_when_they_were",
    ],
    19: [f"{RUNS}::test_the_student_is_saved_as_its_own_weights_and_nothing_else"],
    20: [
        f"{RUNS}::test_a_step_is_trained_then_saved_then_evaluated",
        "tests/engine/evaluation/test_best_model.py::test_evaluation_does_not_change_training",
    ],
    21: [
        "tests/engine/forward/test_model_runner.py::test_teachers_are_frozen_and_the_student_trains",
        "tests/engine/forward/test_model_runner.py::test_frozen_restores_the_former_mode",
    ],
    22: [
        "tests/properties/test_own_tokenizers.py::test_texts_have_a_batch_for_each_model",
        f"{CACHE}::test_every_row_is_computed_once_and_read_in_each_epoch",
        f"{CACHE}::test_a_second_run_does_not_run_the_teacher",
        "tests/properties/test_same_loss.py::test_teacher_outputs_may_come_from_a_cache_or_its_reductions",
        f"{CACHE}::test_settings_that_change_the_values_have_separate_caches",
    ],
    23: ["tests/planning/test_matches.py::test_names_of_terms_are_unique"],
    24: ["plugins/kdspec-emd/tests/test_emd.py::test_it_has_textbrewers_golden_value"],
    25: [
        "tests/engine/forward/test_parameter_tree.py::test_parameters_and_buffers_count_but_apart",
        "tests/engine/forward/test_parameter_tree.py::test_a_tensor_that_is_used_twice_counts_once",
    ],
    26: [
        "tests/builtins/tasks/test_augmentations.py::test_textbrewers_values",
        "tests/builtins/tasks/test_augmentations.py::test_a_text_of_any_length_stays_one",
    ],
    27: [
        f"{RUNS}::test_mistakes_of_a_spec_are_found_before_anything_is_loaded",
        "tests/cli/commands/test_import_textbrewer.py::test_errors_are_reported_with_line_and_column",
    ],
    28: [f"{RUNS}::test_a_feature_from_inside_a_module_can_be_matched"],
    29: [
        "tests/builtins/matching/test_presets.py::test_what_a_preset_gives_belongs_to_the_caller",
        f"{RUNS}::test_training_again_in_the_same_process_changes_nothing",
        f"{RUNS}::test_fewer_steps_than_between_two_checkpoints_are_saved_at_the_end",
        f"{RUNS}::test_a_loss_of_weight_0_is_not_computed",
        "tests/properties/test_same_loss.py::test_teacher_outputs_may_come_from_a_cache_or_its_reductions",
    ],
}
"""Tests by the number of the statement: the total (1), soft labels (2-6), hard labels (7), several teachers (8),
several tasks (9), matches (10-13), schedules and temperatures (14, 15), the optimizer step (16, 17), checkpoints and
callbacks (18-20), the teacher's mode (21), batches of its own and its cache (22), names in logs (23), transport between
layers (24), counting parameters (25), augmentation (26), mistakes (27), features of modules (28), and accidents that
are not inherited (29)."""


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_statement_is_here():
    assert list(SHOWN) == list(range(1, 30))


@pytest.mark.parametrize("number", SHOWN)
def test_a_statement_is_shown_by_tests_that_there_are(number):
    for node in SHOWN[number]:
        file, _, name = node.partition("::")
        assert name in names_in(file), node


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"total": 30, "steps_per_epoch": 10}, [10, 20, 30]),
        ({"total": 30, "steps_per_epoch": 10, "every_epochs": 1 / 2}, [5, 10, 15, 20, 25, 30]),
        ({"total": 30, "steps_per_epoch": 10, "every_epochs": 1 / 3}, [3, 6, 10, 13, 16, 20, 23, 26, 30]),
        ({"total": 30, "steps_per_epoch": 10, "every_epochs": 2}, [20, 30]),
        ({"total": 25, "steps_per_epoch": 10, "every_steps": 10}, [10, 20, 25]),
        ({"total": 5, "steps_per_epoch": 10, "every_steps": 10}, [5]),
    ],
)
def test_checkpoints_are_at_the_steps_of_textbrewer(settings, steps):
    calendar = Triggers(**settings)
    assert [step for step in range(1, calendar.total + 1) if calendar.due(step)] == steps
