"""Runs as variants: which belong together, their means and deviations, and the best by validation rows."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.report.comparison.compared_run import read_run
from kdspec.report.comparison.variant import Figure, compare


def compared(*folders):
    return compare(map(read_run, folders))


def column(found, name):
    return next(each for each in found.columns if each.name == name)


def test_runs_that_differ_only_in_seed_and_name_are_one_variant(folder_of_run):
    folders = [
        folder_of_run(f"t{t}-s{seed}", temperature=t, seed=seed, accuracy=0.7 + 0.01 * seed + 0.1 * (t == 4))
        for t in (2, 4)
        for seed in (1, 2, 3)
    ]
    found = compared(*folders)
    assert [variant.label for variant in found.variants] == ["temperature 2", "temperature 4"]
    assert [len(variant.runs) for variant in found.variants] == [3, 3]
    (row,) = found.differences
    assert row.path == "stages.distil.distiller.general.soft_labels.temperature"
    assert row.values == (2, 4)
    first = column(found, "validation accuracy").figures[0]
    assert first.values == pytest.approx((0.71, 0.72, 0.73))
    assert (first.mean, first.deviation) == pytest.approx((0.72, statistics.stdev([0.71, 0.72, 0.73])))
    assert found.best == 1


def test_two_and_two_point_zero_are_the_same_setting(folder_of_run):
    found = compared(folder_of_run("a", temperature=2), folder_of_run("b", temperature=2.0, seed=2))
    assert len(found.variants) == 1
    assert found.best is None


def test_the_best_is_chosen_by_validation_and_never_by_test_rows(folder_of_run):
    found = compared(
        folder_of_run("a", temperature=2, accuracy=0.9, test=0.1),
        folder_of_run("b", temperature=4, accuracy=0.8, test=1),
    )
    assert found.best == 0
    assert [figure.mean for figure in column(found, "test accuracy").figures] == [0.1, 1]


def test_a_metric_that_should_be_low_is_chosen_low(folder_of_run):
    folders = [folder_of_run(str(t), temperature=t, accuracy=t / 10, metric="loss", lower=True) for t in (2, 1, 3)]
    assert compared(*folders).best == 1


def test_an_unfinished_run_does_not_count(folder_of_run):
    found = compared(
        folder_of_run("a", accuracy=0.5),
        folder_of_run("b", seed=2, accuracy=0.9, ends="unfinished", steps=2),
        folder_of_run("c", temperature=4, accuracy=0.6, ends="failed"),
    )
    assert column(found, "validation accuracy").figures == (Figure((0.5,)), None)
    assert [(run.status, run.reason) for run in found.runs] == [
        ("finished", ""),
        ("unfinished", "distil 2/4"),
        ("failed", "KD501 the loss is not finite"),
    ]
    assert found.best is None


def test_runs_that_have_read_other_rows_are_other_variants_and_none_is_the_best(folder_of_run):
    found = compared(folder_of_run("a"), folder_of_run("b", rows="cd" * 32, seed=2))
    assert len(found.variants) == 2
    (row,) = found.content
    assert (row.path, row.values) == ("rows of validation, tasks.t", ("ab" * 6, "cd" * 6))
    assert (found.differences, found.best) == ((), None)


def test_other_versions_are_among_the_differences(folder_of_run):
    found = compared(folder_of_run("a"), folder_of_run("b", temperature=4, versions={"kdspec": "0.2.0"}))
    (row,) = found.versions
    assert (row.path, row.values) == ("kdspec", ("0.1.0", "0.2.0"))


def test_a_variant_of_one_run_has_the_name_of_the_run(folder_of_run):
    found = compared(folder_of_run("cold"), folder_of_run("hot", temperature=8))
    assert [variant.label for variant in found.variants] == ["cold", "hot"]


def test_equal_names_in_two_folders_are_told_apart(folder_of_run):
    one, other = folder_of_run("a"), folder_of_run("a", temperature=4, within="others")
    assert [variant.label for variant in compared(one, other).variants] == [f"a ({one})", f"a ({other})"]


def test_different_metrics_have_no_best(folder_of_run):
    found = compared(folder_of_run("a"), folder_of_run("b", temperature=4, metric="f1"))
    assert (found.metric, found.best) == ("", None)
    assert [column(found, f"validation {name}").figures for name in ("accuracy", "f1")] == [
        (Figure((0.8,)), None),
        (None, Figure((0.8,))),
    ]


def test_without_test_rows_the_validation_metrics_of_the_table_are_shown_once(folder_of_run):
    folders = [folder_of_run("a"), folder_of_run("b", temperature=4)]
    for folder in folders:
        file = folder / "table.json"
        rows = [
            row | {"split": "validation", "metrics": {"accuracy": 0.8, "f1": 0.6}}
            for row in json.loads(file.read_text())
        ]
        file.write_text(json.dumps(rows))
    found = compared(*folders)
    assert [each.name for each in found.columns if each.unit == "metric"] == ["validation accuracy", "validation f1"]


def test_the_cost_is_that_of_all_stages_and_starts(folder_of_run):
    found = compared(folder_of_run("a"), folder_of_run("b", seed=2))
    assert column(found, "steps").figures[0].values == (4, 4)
    assert column(found, "training time").figures[0].values == (10, 20)
    assert column(found, "rows from caches").figures[0].mean == 12
    assert column(found, "size").figures[0].mean == 17_500


def test_a_mean_with_nan_is_nan_and_has_no_deviation():
    figure = Figure((0.5, math.nan))
    assert math.isnan(figure.mean)
    assert figure.deviation is None


def test_a_log_of_another_program_is_refused(folder_of_run, tmp_path):
    (tmp_path / "events.jsonl").write_text('{"level": "info"}\n')
    with pytest.raises(FindingError, match="has no event of kdspec"):
        read_run(tmp_path)


def test_a_run_that_has_just_begun_is_unfinished(tmp_path):
    (tmp_path / "events.jsonl").touch()
    found = read_run(tmp_path)
    assert (found.status, found.reason, found.settings) == ("unfinished", "no step is done", {})


def test_a_damaged_spec_is_named_with_its_place(folder_of_run):
    folder = folder_of_run("a")
    (folder / "spec.yaml").write_text("kdspec: [1\n")
    with pytest.raises(DiagnosticError, match=r"a/spec\.yaml:"):
        read_run(folder)


def test_a_damaged_table_is_refused(folder_of_run):
    folder = folder_of_run("a")
    (folder / "table.json").write_text("[{}]")
    with pytest.raises(FindingError, match="KD003"):
        read_run(folder)
