"""The small run in the tests of plugin authors: what it leaves, finished, stopped and failed."""

from __future__ import annotations

import signal

import pytest

from kdspec import hookimpl
from kdspec.events import RunStarted
from kdspec.testing import SmallRun, logged_curves

pytestmark = pytest.mark.slow


class Noting:
    """Keeps the starts that it sees."""

    __name__ = "noting"

    def __init__(self):
        self.starts = []

    @hookimpl
    def kdspec_observe(self, event, session):
        if isinstance(event, RunStarted):
            self.starts.append((event.resumed_at, tuple(session.track)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return SmallRun(tmp_path_factory.mktemp("small"), name="tried")


def test_it_has_curves_of_two_stages(small, tmp_path):
    ran = small.run(tmp_path)
    assert ran.folder == tmp_path / "tried"
    curves = logged_curves(ran)
    steps = {name: [*values] for name, values in curves.items()}
    assert steps["fit/loss"] == [1, 2]
    assert steps["distil/loss"] == steps["distil/terms/soft_labels"] == steps["distil/lr/student"] == [*range(1, 7)]
    assert {"distil/terms/hard_labels", "distil/weights/hard_labels", "distil/gradient_norm"} <= curves.keys()
    assert steps["distil/validation/accuracy"] == [3, 6]


def test_it_is_stopped_and_resumes_even_where_signals_are_ignored(small, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    noting = Noting()
    try:
        small.stopped(tmp_path, noting, track="noting")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    small.run(tmp_path, noting)
    assert noting.starts == [(None, ("noting",)), (4, ())]


def test_it_fails_with_an_infinite_loss(small, tmp_path):
    assert "KD501" in str(small.failed(tmp_path))


def test_a_run_that_is_over_is_not_stopped(small, tmp_path):
    small.run(tmp_path)
    with pytest.raises(AssertionError, match="was not stopped"):
        small.stopped(tmp_path)
