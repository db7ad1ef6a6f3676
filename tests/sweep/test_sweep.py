"""A sweep's processes: which run is started when, what ends them, and what an earlier start has left."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from kdspec.sweep import sweep as module
from kdspec.sweep.axis import grid_axis, range_axis
from kdspec.sweep.child_run import ChildRun
from kdspec.sweep.median_rule import MedianRule
from kdspec.sweep.search import PointSearch
from kdspec.sweep.sweep import Sweep
from kdspec.sweep.sweep_point import grid_points
from kdspec.sweep.sweep_record import read_record, record_of, sampled_points


class Process:
    """Stands for a process: makes a folder of a run when it is looked at for the second time, and ends."""

    def __init__(self, ends, code=0):
        self.ends, self.code, self.looks, self.signals, self.killed = ends, code, 0, [], False

    def poll(self):
        self.looks += 1
        if self.signals or self.killed:
            return 130
        if self.looks < 2:
            return None
        if self.looks == 2:
            self.ends()
        return self.code

    def send_signal(self, number):
        self.signals.append(number)

    def kill(self):
        self.killed = True

    def wait(self):
        return 130


@pytest.fixture
def sweep(tmp_path, folder_of_run, monkeypatch):
    """Makes a sweep over `t` in which a run has the accuracy that `accuracy` gives for its point and seed."""
    monkeypatch.setattr(module, "_POLL", 0)
    folder = tmp_path / "s-sweep"

    def make(
        axes=("t=1,2,3",),
        seeds=(1,),
        *,
        jobs=1,
        accuracy=lambda t, seed: t / 10,
        code=0,
        rule=False,
        check=None,
        **more,
    ):
        folder.mkdir(exist_ok=True)
        record = read_record(folder) or record_of("spec", [grid_axis(axis) for axis in axes], seeds)
        started = []

        def start(run, slot, threads):
            def ends():
                if code == 0 or run.name != started[0].run.name:
                    t = float(next(iter(run.point.values.values()), 0))
                    folder_of_run(
                        run.name, temperature=t, seed=run.seed, accuracy=accuracy(t, run.seed), within="s-sweep"
                    )
                    (folder / run.name / "student").mkdir()

            process = Process(ends, code if not started else 0)
            output = folder / f"{run.name}.txt"
            output.write_text("error[KD501]: loss is nan\n")
            started.append(ChildRun(run, process, output, slot))
            return started[-1]

        lines = []
        made = Sweep(
            folder=folder, record=record, points=list(grid_points([grid_axis(axis) for axis in axes])), stage="distil",
            command=SimpleNamespace(start=start), jobs=jobs, threads=3, stop=SimpleNamespace(requested=None),
            tell=lines.append, check=check or (lambda run: None), rule=MedianRule() if rule else None, **more,
        )  # fmt: skip
        record.write(folder)
        made.started, made.lines = started, lines
        return made

    return make


def names(made):
    return [child.run.name for child in made.started]


def test_all_points_run_with_the_first_seed_before_the_next_one(sweep):
    made = sweep(("t=1,2",), (1, 2))
    made.run()
    assert names(made) == ["t-1_seed-1", "t-2_seed-1", "t-1_seed-2", "t-2_seed-2"]
    assert made.failed == {}
    assert made.lines[:2] == [
        "t-1_seed-1: started, 0 of 4 runs are finished",
        "t-1_seed-1: finished: validation accuracy 0.1000",
    ]
    assert read_record(made.folder).threads == dict.fromkeys(names(made), 3)


def test_as_many_run_at_a_time_as_there_are_jobs(sweep):
    made = sweep(("t=1,2,3,4,5",), jobs=2)
    made.run()
    assert len(made.started) == 5
    assert {child.slot for child in made.started} == {0, 1}


def test_what_is_finished_is_not_run_again(sweep):
    sweep(("t=1,2",)).run()
    again = sweep(("t=1,2",))
    again.run()
    assert again.started == []


def test_a_run_that_fails_does_not_stop_the_others_and_is_tried_again_by_the_next_start(sweep):
    made = sweep(("t=1,2",), code=3)
    made.run()
    assert made.failed == {"t-1_seed-1": "error[KD501]: loss is nan"}
    assert names(made) == ["t-1_seed-1", "t-2_seed-1"]
    again = sweep(("t=1,2",))
    again.run()
    assert names(again) == ["t-1_seed-1"]


def test_a_run_that_ends_well_without_a_result_has_failed(sweep):
    made = sweep(("t=1",))
    made.command.start = lambda run, slot, threads: ChildRun(run, Process(lambda: None), made.folder / "none", slot)
    made.run()
    assert made.failed == {"t-1_seed-1": "nothing was printed"}


def test_a_signal_is_passed_on_once_and_nothing_more_is_started(sweep):
    made = sweep(("t=1,2,3",), jobs=2)
    start = made.command.start

    def stopping(run, slot, threads):
        made.stop.requested = signal.SIGINT if len(made.started) == 1 else None
        return start(run, slot, threads)

    made.command.start = stopping
    made.run()
    assert [child.process.signals for child in made.started] == [[signal.SIGINT], [signal.SIGINT]]
    assert made.failed == {}
    assert read_record(made.folder).stopped == {}


def test_a_run_that_does_not_end_after_a_signal_is_killed(sweep, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0)
    made = sweep(("t=1",))
    process = Process(lambda: None)
    process.poll = lambda: None
    made.command.start = lambda run, slot, threads: ChildRun(run, process, made.folder / "none", slot)
    made.stop = SimpleNamespace(requested=signal.SIGTERM)
    made._start(made._next())
    made.run()
    assert process.killed


def test_a_run_resumes_with_the_threads_that_it_began_with(sweep):
    made = sweep(("t=1,2",))
    made._keep(made.record.__class__(**{**vars(made.record), "threads": {"t-2_seed-1": 7}}))
    threads = {}
    start = made.command.start

    def noting(run, slot, count):
        threads[run.name] = count
        return start(run, slot, count)

    made.command.start = noting
    made.run()
    assert threads == {"t-1_seed-1": 3, "t-2_seed-1": 7}


def test_in_detail_the_evaluations_of_each_run_are_printed_and_where_its_output_is(sweep):
    made = sweep(("t=1,2",), detailed=True)
    made.run()
    of_first = [line for line in made.lines if line.startswith("t-1_seed-1")]
    assert of_first[1] == f"t-1_seed-1: its output is in {made.folder / 't-1_seed-1.txt'}"
    assert of_first[2].startswith("t-1_seed-1: step ")
    assert of_first[2].endswith(": validation accuracy 0.1000")
    again = sweep(("t=1,2",), detailed=True)
    again.run()
    assert again.lines == []


def test_a_run_that_cannot_be_started_has_failed(sweep):
    made = sweep(("t=1,2",), check=lambda run: "`spec.yaml` has been changed" if "t-1" in run.name else None)
    made.run()
    assert made.failed == {"t-1_seed-1": "`spec.yaml` has been changed"}
    assert names(made) == ["t-2_seed-1"]


def slow(made, folder_of_run, bad):
    """Lets the run of a point have its folder at once, and end only by a signal."""
    start = made.command.start

    def starting(run, slot, threads):
        child = start(run, slot, threads)
        if bad in run.name:
            folder_of_run(run.name, accuracy=0.01, ends="unfinished", within="s-sweep")
            child.process.poll = lambda: 130 if child.process.signals else None
        return child

    made.command.start = starting


def test_a_bad_run_is_stopped_early_with_the_other_seeds_of_its_point(sweep, folder_of_run):
    made = sweep(("t=1,2,3,4,5,6",), (1, 2), rule=True)
    slow(made, folder_of_run, "t-6")
    made.run()
    assert list(read_record(made.folder).stopped) == ["t-6_seed-1"]
    assert "t-6_seed-2" not in names(made)
    assert made.failed == {}
    assert "t-6_seed-1: stopped early, worse than the median of the finished runs at the same step" in made.lines


def test_a_run_that_was_stopped_early_stays_so_until_the_sweep_is_run_without_the_rule(sweep, folder_of_run):
    made = sweep(("t=1,2,3,4,5,6",), rule=True)
    slow(made, folder_of_run, "t-6")
    made.run()
    again = sweep(("t=1,2,3,4,5,6",), rule=True)
    again.run()
    assert again.started == []
    last = sweep(("t=1,2,3,4,5,6",))
    slow(last, lambda *_, **__: None, "nothing")
    last.command.start = lambda run, slot, threads: (
        last.started.append(run) or ChildRun(run, Process(lambda: None, 3), last.folder / "none", slot)
    )
    last.run()
    assert [run.name for run in last.started] == ["t-6_seed-1"]
    assert read_record(last.folder).stopped == {}


def test_the_rule_knows_the_runs_of_earlier_starts(sweep, folder_of_run):
    sweep(("t=1,2,3,4,5",)).run()
    made = sweep(("t=1,2,3,4,5,0.5",), rule=True)
    slow(made, folder_of_run, "t-0.5")
    made.run()
    assert list(made.record.stopped) == ["t-0.5_seed-1"]


def test_points_are_sampled_as_they_are_needed_and_the_search_hears_their_means(sweep, tmp_path):
    axes = [range_axis("t=1..9")]
    folder = tmp_path / "s-sweep"
    folder.mkdir()
    record_of("spec", axes, (1, 2), sample=3, sampler="tpe").write(folder)
    search = PointSearch(folder, axes, "tpe", 1)
    made = sweep((), accuracy=lambda t, seed: t / 10 + seed / 100, search=search)
    made.points = []
    made.run()
    record = read_record(folder)
    assert len(record.sampled) == 3
    assert len(made.started) == 2 * len(sampled_points(record))
    for sampled, trial in zip(record.sampled, search.study.get_trials(), strict=True):
        assert trial.value == pytest.approx(float(sampled.values["t"]) / 10 + 0.015)


def test_a_point_that_fails_is_no_value_for_the_search(sweep, tmp_path):
    axes = [range_axis("t=1..9")]
    folder = tmp_path / "s-sweep"
    folder.mkdir()
    record_of("spec", axes, (1,), sample=2, sampler="tpe").write(folder)
    search = PointSearch(folder, axes, "tpe", 1)
    made = sweep((), code=3, search=search)
    made.points = []
    made.run()
    assert [trial.state.name for trial in search.study.get_trials()] == ["FAIL", "COMPLETE"]
