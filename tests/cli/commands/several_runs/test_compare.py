"""`kdspec compare`: what it prints, its page, and wrong folders."""

from __future__ import annotations

import json


def test_the_table_has_variants_with_their_deviation_and_the_best(kdspec, folder_of_run, tmp_path):
    for t in (2, 4):
        for seed in (1, 2, 3):
            folder_of_run(f"t{t}-s{seed}", temperature=t, seed=seed, accuracy=0.7 + t / 100 + seed / 1000)
    outcome = kdspec("compare", str(tmp_path / "runs"))
    assert (outcome.code, outcome.err) == (0, "")
    assert "temperature 4 (best)" in outcome.out
    assert "0.7420 ± 0.0010" in outcome.out
    assert "stages.distil.distiller.general.soft_labels.temperature" in outcome.out
    assert "highest validation accuracy" in outcome.out


def test_more_variants_are_rows(kdspec, folder_of_run, tmp_path):
    for t in range(1, 8):
        folder_of_run(f"t{t}", temperature=t, accuracy=t / 10)
    outcome = kdspec("compare", str(tmp_path / "runs"))
    assert any(line.strip().startswith("t7 (best)") for line in outcome.out.splitlines())
    assert "the same for all: agreement 90.0 %, parameters 4.0 k" in outcome.out


def test_a_variant_without_a_finished_run_does_not_keep_sizes_apart(kdspec, folder_of_run, tmp_path):
    for t in (1, 2):
        folder_of_run(f"t{t}", temperature=t)
    folder_of_run("t3", temperature=3, ends="unfinished")
    assert "the same for all: agreement 90.0 %, parameters 4.0 k" in kdspec("compare", str(tmp_path / "runs")).out


def test_json_has_everything(kdspec, folder_of_run):
    one, other = folder_of_run("a"), folder_of_run("b", temperature=4, ends="unfinished", steps=2)
    outcome = kdspec("compare", str(one), str(other), "--json")
    found = json.loads(outcome.out)
    assert found["metric"] == "accuracy"
    assert [run["status"] for run in found["runs"]] == ["finished", "unfinished"]
    figures = found["variants"][0]["figures"]
    assert figures["test accuracy"] == {"unit": "metric", "mean": 0.7, "deviation": None, "values": [0.7]}
    assert found["differences"] == [
        {"path": "stages.distil.distiller.general.soft_labels.temperature", "values": {"a": 2.0, "b": 4}}
    ]
    assert outcome.err == f"{other}: unfinished: distil 2/4\n"


def test_the_page_is_written(kdspec, folder_of_run, tmp_path):
    page = tmp_path / "page.html"
    outcome = kdspec("compare", str(folder_of_run("a")), str(folder_of_run("b", seed=2)), "--html", str(page))
    assert outcome.code == 0
    assert outcome.err == f"page: {page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_folder_named_twice_counts_once(kdspec, folder_of_run, tmp_path):
    one = folder_of_run("a")
    folder_of_run("b", seed=2)
    found = json.loads(kdspec("compare", str(one), str(tmp_path / "runs"), "--json").out)
    assert [run["name"] for run in found["runs"]] == ["a", "b"]


def test_one_run_is_not_a_comparison(kdspec, folder_of_run):
    outcome = kdspec("compare", str(folder_of_run("a")))
    assert outcome.code == 2
    assert "only one run" in outcome.err


def test_folders_that_are_no_runs_are_refused(kdspec, folder_of_run, tmp_path):
    one = str(folder_of_run("a"))
    (tmp_path / "empty").mkdir()
    assert "contains none" in (outcome := kdspec("compare", one, str(tmp_path / "empty"))).err
    assert outcome.code == 2
    assert "there is no folder" in (outcome := kdspec("compare", one, str(tmp_path / "missing"))).err
    assert outcome.code == 2


def test_a_damaged_line_is_named_and_left_out(kdspec, folder_of_run):
    one = folder_of_run("a")
    with (one / "events.jsonl").open("a") as log:
        log.write("broken\n")
    outcome = kdspec("compare", str(one), str(folder_of_run("b", temperature=4)))
    assert outcome.code == 0
    assert f"{one}: line 11 of `events.jsonl` is not an event of a run" in outcome.err


def test_a_page_that_cannot_be_written_is_an_error(kdspec, folder_of_run, tmp_path):
    page = tmp_path / "missing" / "page.html"
    outcome = kdspec("compare", str(folder_of_run("a")), str(folder_of_run("b", seed=2)), "--html", str(page))
    assert outcome.code == 2
    assert "error[KD508]" in outcome.err
