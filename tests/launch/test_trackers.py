"""Trackers by their names, and what they find when a run ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec import hookimpl
from kdspec.cli import main
from kdspec.launch.trackers import refused_trackers
from kdspec.registry.plugins import Plugin, Plugins, Problem


class Tracker:
    """Keeps what it finds at the end of the runs that name it."""

    __name__ = "noting"

    def __init__(self):
        self.found = []

    @hookimpl
    def kdspec_observe(self, event, session):
        if "noting" in session.track and not self.found:
            self.found.append(session.track)
            session.at_end.callback(lambda: self.found.append({path.name for path in session.folder.iterdir()}))


def loaded(*names, problems=()):
    plugins = Plugins()
    for name in names:
        plugins.add(Plugin(f"kdspec-{name}", "1", name, f"kdspec_{name}", Tracker()))
    plugins.add(Plugin("kdspec", "1", "tensorboard", "kdspec.builtins.observers.tensorboard", Tracker()))
    plugins.problems += problems
    return plugins


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wandb", None),
        ("wanbd", "there is no tracker `wanbd`; did you mean `wandb`?"),
        ("mlflow", "there is no tracker `mlflow`; `pip install kdspec-mlflow` brings `mlflow`"),
        ("mlfow", "there is no tracker `mlfow`; `pip install kdspec-mlflow` brings `mlflow`"),
        ("comet", "there is no tracker `comet`; installed are `wandb`"),
        ("tensorboard", "there is no tracker `tensorboard`; installed are `wandb`"),
        ("broken", "the tracker `broken` cannot be loaded: ImportError: no"),
    ],
)
def test_a_name_that_is_no_tracker_is_refused(name, reason):
    plugins = loaded("wandb", problems=[Problem("kdspec-broken", "1", "broken", "kdspec_broken", "ImportError: no")])
    assert refused_trackers([name], plugins) == reason


def test_without_any_tracker_it_says_so():
    assert refused_trackers(["comet"], loaded()) == "there is no tracker `comet`; installed are none"


def test_the_command_and_the_function_refuse_it_before_the_run(toy, capsys):
    with pytest.raises(ValueError, match="there is no tracker `comet`"):
        toy("run", track="comet")
    assert main(["run", "toy.yaml", "--track", "comet"]) == 2
    assert "there is no tracker `comet`" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_tracker_finds_the_table_and_the_report_when_the_run_ends(toy):
    tracker = Tracker()
    toy("run", plugins=[tracker], track=["noting"])
    names, files = tracker.found
    assert names == ["noting"]
    assert files >= {"table.json", "report.html", "spec.yaml", "student"}


def test_a_run_that_does_not_name_it_is_not_tracked(toy):
    tracker = Tracker()
    toy("run", plugins=[tracker])
    assert tracker.found == []
