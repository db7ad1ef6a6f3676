"""Fifty-seven things that go wrong with training runs elsewhere, and the tests that show what happens here.

A scenario without a test says why. Where a whole file is about it, the file is named.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from kdspec.api.hooks import API_VERSION
from kdspec.registry.registry import load_registry

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Scenario:
    number: int
    name: str
    tests: tuple[str, ...]
    """Where it is shown: `file::test`, or a file."""
    but: str = ""
    """What of it is not shown, or is otherwise here, and why."""


def scenario(number: int, name: str, *tests: str, but: str = "") -> Scenario:
    return Scenario(number, name, tests, but)


CACHE, SOURCE = "tests/engine/teacher_cache/", "tests/source/test_document.py::"
SECURITY, FAULTS, RESUME = (
    "tests/properties/test_security.py::",
    "tests/properties/test_faults.py::",
    "tests/properties/test_resume.py::",
)
STORE, TRAINING, MODELS = (
    "tests/engine/run/test_checkpoint.py::",
    "tests/engine/step/test_training_loop.py::",
    "tests/builtins/models/test_transformers.py::",
)
DISTRIBUTED, ORDER = "tests/properties/test_distributed.py::", "tests/engine/batches/test_sampler.py::"
CORPUS = "tests/diagnostics/test_corpus.py::test_a_bad_spec_gives_the_recorded_output"

SCENARIOS = (
    # Specs and data.
    scenario(1, "numbers with exponents", SOURCE + "test_plain_text_is_a_number_boolean_or_null_as_in_yaml_1_2"),
    scenario(2, "a key given twice", SOURCE + "test_both_places_are_labelled", CORPUS),
    scenario(3, "no, 1:30, 017 and dates are texts", SOURCE + "test_other_plain_text_is_text"),
    scenario(4, "values that are no numbers, or of another type", CORPUS),
    scenario(5, "alias bombs, nesting, sizes", SOURCE + "test_an_alias_bomb_is_refused_quickly", SECURITY + "test_a_text_cannot_take_all_memory", "tests/properties/test_fuzz.py"),
    scenario(6, "tags, documents, encodings, files that cannot be read", SOURCE + "test_windows_line_ends_are_one_line_break", SOURCE + "test_text_in_utf_16_is_named_as_a_likely_cause", "tests/source/test_extends.py::test_an_unreadable_file_is_named", "tests/source/test_extends.py::test_pipes_and_devices_are_refused_and_not_waited_for", CORPUS),
    scenario(7, "misspelt keys, losses and layers", "tests/properties/test_mutations.py", CORPUS),
    scenario(8, "names and links that lead elsewhere", SECURITY + "test_names_of_it_stay_in_the_folder", SECURITY + "test_links_in_it_are_refused_and_what_they_lead_to_is_not_touched"),
    scenario(9, "an import path in a spec", SECURITY + "test_names_nothing_to_import", SECURITY + "test_has_no_expressions_in_its_field_paths", but="code comes from a file that `--plugin` names"),
    scenario(10, "remote code of a model", SECURITY + "test_cannot_allow_code_or_pickles", SECURITY + "test_cannot_allow_the_code_of_a_model", SECURITY + "test_code_beside_it_is_not_run", MODELS + "test_code_in_a_folder_is_not_run", SECURITY + "test_is_not_run_without_being_asked_for", SECURITY + "test_it_runs_if_the_command_allows_it", but="the flag is `--trust-remote-code`"),
    scenario(11, "pickled weights", MODELS + "test_a_pickle_is_refused", SECURITY + "test_a_pickle_is_not_read"),
    scenario(12, "archives and scripts of data sets", "tests/builtins/datasets/test_files.py", but="kdspec unpacks no archive, and the library of data sets runs no scripts any more"),
    scenario(13, "a secret in a spec", SECURITY + "test_it_is_refused_and_never_shown"),
    scenario(14, "data files with bad lines", "tests/data/files/test_delimited.py", "tests/data/files/test_json_rows.py", "tests/builtins/datasets/test_files.py::test_a_mistake_in_a_csv_file_names_file_and_line", "tests/builtins/datasets/test_files.py::test_a_mistake_in_a_json_file_names_line_and_column", but="there is no setting that skips bad lines"),
    scenario(15, "5,000 mutated specs", "tests/properties/test_fuzz.py::test_hostile_texts_end_in_a_diagnostic_or_a_plan", "tests/properties/test_mutations.py"),
    # Plugins.
    scenario(16, "a plugin that fails on import", "tests/cli/test_components.py::test_plugins_reports_a_broken_one_and_succeeds", "tests/cli/test_components.py::test_another_command_refuses_a_broken_plugin_that_was_named", but="one that hangs is not interrupted"),
    scenario(17, "two plugins with one name, or that of a built-in", CORPUS, "tests/cli/test_components.py::test_a_plugin_is_named_as_the_provider_and_does_not_shadow"),
    scenario(18, "a hook that is none", "tests/properties/test_scenarios.py::test_an_unknown_hook_is_reported"),
    scenario(19, "an observer that raises, or ends the process", "tests/engine/run/test_session.py::test_an_observer_that_raises_is_reported_once_and_the_run_continues", FAULTS + "test_an_observer_is_dropped", but="no observer can stop a run"),
    scenario(20, "a plugin for another version", "tests/properties/test_scenarios.py::test_a_plugin_for_another_version_is_reported_with_both_versions"),
    # Checkpoints and going on.
    scenario(21, "SIGKILL at random moments", "tests/properties/test_kills.py", "tests/properties/kills.py", RESUME + "test_a_run_killed_at_random_moments_ends_as_one_that_was_not", STORE + "test_a_process_killed_at_any_moment_leaves_its_newest_checkpoint"),
    scenario(22, "the same with mixed precision, accumulation, several tasks", RESUME + "test_mixed_precision_resumes_too", "tests/engine/step/test_multi_task.py", "tests/properties/test_kills.py", but="there are no workers whose number could change"),
    scenario(23, "a killed rank", DISTRIBUTED + "test_the_other_names_the_one_that_was_killed", DISTRIBUTED + "test_after_accidents_the_run_ends_in_the_weights_of_one_that_was_left_alone"),
    scenario(24, "going on under another backend", DISTRIBUTED + "test_a_signal_to_one_stops_both_and_the_other_backend_resumes", DISTRIBUTED + "test_one_process_resumes_a_run_of_two", DISTRIBUTED + "test_a_run_resumes_under_accelerate_and_after_it"),
    scenario(25, "a damaged file of the newest checkpoint", "tests/properties/test_damage.py", STORE + "test_every_damage_is_found_reported_and_passed_over", "tests/engine/run/test_manifest.py::test_every_flipped_bit_is_seen"),
    scenario(26, "all checkpoints damaged", RESUME + "test_a_run_with_damaged_checkpoints_only_does_not_start_again"),
    scenario(27, "a full disk while a checkpoint is saved", FAULTS + "test_it_stops_the_run_which_resumes_when_it_is_corrected", FAULTS + "test_a_full_file_system_does_too", STORE + "test_a_disk_that_refuses_in_mid_save_costs_only_that_save", but="the first refusal stops the run"),
    scenario(28, "a folder that becomes read-only or vanishes", FAULTS + "test_it_stops_the_run_which_resumes_when_it_is_corrected", FAULTS + "test_the_run_stops_and_does_not_write_into_another"),
    scenario(29, "too little room, found before the first step", FAULTS + "test_too_little_disk_space_for_checkpoints_is_reported_before_the_first_step", but="a plan does not know the disk of the run"),
    scenario(30, "a spec that has changed", RESUME + "test_another_spec_under_the_same_name_is_refused_with_what_differs", RESUME + "test_what_the_weights_do_not_depend_on_may_change", FAULTS + "test_resume_continues_with_the_changes_and_reports_them", but="more epochs change the learning rates, so they need `--resume`"),
    scenario(31, "other versions of the libraries", RESUME + "test_other_versions_of_the_libraries_are_noted_when_a_run_resumes"),
    scenario(32, "the best checkpoint is missing", RESUME + "test_without_the_best_checkpoint_the_last_student_is_kept", RESUME + "test_the_best_student_survives"),
    scenario(33, "a run folder in another place", STORE + "test_a_checkpoint_can_be_moved", FAULTS + "test_the_run_stops_and_does_not_write_into_another"),
    scenario(34, "a hostile checkpoint", SECURITY + "test_a_pickle_in_it_is_not_read", SECURITY + "test_names_that_lead_elsewhere_are_refused", SECURITY + "test_other_files_in_its_folder_are_not_opened"),
    scenario(35, "a power cut", STORE + "test_the_disk_has_all_of_it_before_the_name_is_given", "tests/engine/run/test_durable_files.py::test_contents_are_on_the_disk_before_the_name_and_the_name_before_returning"),
    # Processes and signals.
    scenario(36, "a signal at any moment", "tests/properties/test_interrupts.py", "tests/engine/run/test_signals.py", but="SIGUSR1 is not taken"),
    scenario(37, "a signal to one of two processes", DISTRIBUTED + "test_a_signal_to_one_stops_both_and_the_other_backend_resumes"),
    scenario(38, "two runs in one folder", "tests/engine/run/test_lock.py", but="no network file system is at hand"),
    scenario(39, "a worker that dies or hangs", but="rows are made in the process itself: there are no workers"),
    scenario(40, "uneven data", ORDER + "test_every_rank_gets_equally_many_micro_batches", ORDER + "test_a_rank_without_rows_gets_an_empty_micro_batch", DISTRIBUTED + "test_two_processes_come_to_the_weights_of_one_with_the_doubled_batch", but="a data set below one batch is fine: a rank without rows takes part all the same"),
    scenario(41, "a process that is too slow", "tests/engine/processes/test_heartbeat.py::test_one_that_lives_but_does_not_come_is_named", "tests/engine/processes/test_heartbeat.py::test_one_that_gives_no_sign_is_named_with_its_process_and_step", but="one that is alive and slow is waited for, half an hour, and then named"),
    scenario(42, "processes that do not know of each other", "tests/engine/processes/test_torchrun.py::test_where_one_variable_is_missing_it_does_not_train_alone", "tests/engine/processes/test_torchrun.py::test_variables_that_contradict_each_other_are_refused", "tests/engine/processes/test_torchrun.py::test_a_backend_for_several_is_refused_to_one"),
    # Numbers and memory.
    scenario(43, "a loss that is not finite", TRAINING + "test_a_loss_that_is_not_finite_is_named_and_the_weights_are_unharmed", FAULTS + "test_its_batch_is_saved_with_the_rows", DISTRIBUTED + "test_a_loss_that_is_infinite_on_one_stops_both", but="the first one stops the run"),
    scenario(44, "NaN of a teacher, of a gradient, of fp16", FAULTS + "test_a_teacher_with_non_finite_logits_is_named", TRAINING + "test_a_gradient_that_is_not_finite_names_its_term", TRAINING + "test_a_gradient_that_overflows_whatever_the_scale_stops_the_run"),
    scenario(45, "extreme logits, masks and temperatures", "tests/testing/test_loss_suite.py::test_every_builtin_loss_passes", "tests/ops/test_divergence.py", "tests/ops/test_attention.py"),
    scenario(46, "attention that the fast implementation does not return", "tests/properties/test_transformers.py::test_attention_has_weights_where_they_are_read_and_only_there"),
    scenario(47, "exhausted memory", FAULTS + "test_the_part_is_named_and_what_else_lies_in_it", FAULTS + "test_a_model_is_named", but="batches are not cut by themselves: the message says how"),
    scenario(48, "a loss that diverges", TRAINING + "test_a_loss_that_is_not_finite_is_named_and_the_weights_are_unharmed", but="there is no setting for it: what stops a run is a loss that is no number, or patience"),
    scenario(49, "a parameter that is never trained", TRAINING + "test_a_parameter_that_would_never_be_trained_is_an_error", TRAINING + "test_parameters_without_a_gradient_are_noted"),
    # Caches, data, and where things come from.
    scenario(50, "a damaged or foreign teacher cache", "tests/properties/test_damage.py", CACHE + "test_cache.py::test_settings_that_change_the_values_have_separate_caches", CACHE + "test_store.py"),
    scenario(51, "two processes and one cache", CACHE + "test_store.py::test_one_process_waits_for_the_other"),
    scenario(52, "no network", MODELS + "test_a_hub_model_that_does_not_exist_is_reported", "tests/builtins/datasets/test_files.py::test_a_hub_data_set_that_cannot_be_reached"),
    scenario(53, "a push to the hub that fails", but="kdspec pushes nothing; the student is a folder that the hub's own tools take"),
    scenario(54, "a tracker that is down or not installed", "tests/engine/run/test_session.py::test_an_observer_that_fails_at_the_end_costs_nothing", "tests/engine/run/test_session.py::test_curves_are_written_and_closed_however_the_run_ends", but="the one tracker is TensorBoard, which has no server"),
    scenario(55, "the same seed twice", ORDER + "test_fold_is_the_same_in_every_process", TRAINING + "test_a_model_that_draws_its_weights_does_so_from_the_seed", "tests/properties/kills.py"),
    scenario(56, "the oldest and newest libraries", "tests/test_layers.py::test_the_language_is_torch_free", "tests/test_project.py::test_every_requirement_has_a_pin_in_its_range", but="tests run with the pinned versions alone"),
    scenario(57, "what is in the package", "tests/registry/test_plugin_packages.py", "tests/test_project.py::test_no_tracked_file_names_a_folder_of_one_machine_or_a_registry_host"),
)  # fmt: skip


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_scenario_is_there_once():
    assert [each.number for each in SCENARIOS] == list(range(1, 58))
    assert len({each.name for each in SCENARIOS}) == 57


@pytest.mark.parametrize("each", SCENARIOS, ids=lambda each: f"{each.number} {each.name}")
def test_a_scenario_has_tests_that_exist_or_a_reason(each):
    assert each.tests or each.but
    for name in each.tests:
        file, _, test = name.partition("::")
        assert (ROOT / file).is_file(), name
        assert not test or test in names_in(file), name


def test_an_unknown_hook_is_reported(tmp_path):
    hook = "from kdspec import hookimpl\n@hookimpl\ndef {}: return []\n"
    for number, line in enumerate(("kdspec_component()", "kdspec_components(extra)", "kdspec_check(plans)")):
        file = tmp_path / f"plugin{number}.py"
        file.write_text(hook.format(line))
        (problem,) = load_registry(file, installed=False).problems
        assert problem.name == f"plugin{number}"
        assert "kdspec_co" in problem.reason or "kdspec_check" in problem.reason


def test_a_plugin_for_another_version_is_reported_with_both_versions(tmp_path):
    file = tmp_path / "later.py"
    file.write_text(f"KDSPEC_API = {API_VERSION + 1}\n")
    (problem,) = load_registry(file, installed=False).problems
    assert problem.reason == f"made for plugin API {API_VERSION + 1}; this kdspec has API {API_VERSION}"
