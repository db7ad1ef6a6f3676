from __future__ import annotations

import os
import signal
import threading

import pytest

from kdspec.engine.run import signals
from kdspec.engine.run.signals import StopSignal

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def usual_handlers():
    """The suite may itself run where interrupts are ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def status_of_child(body):
    child = os.fork()
    if not child:
        try:
            body()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@BOTH
def test_the_first_signal_is_only_noted(number):
    with StopSignal() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number


@BOTH
def test_the_second_signal_ends_the_process_at_once(number):
    def body():
        with StopSignal():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), number)

    assert status_of_child(body) == 128 + number


@BOTH
def test_handlers_are_put_back_even_after_an_error(number):
    before = signal.getsignal(number)
    with StopSignal():
        assert signal.getsignal(number) != before
    assert signal.getsignal(number) == before
    with pytest.raises(KeyError), StopSignal():
        _ = {}["missing"]
    assert signal.getsignal(number) == before


def test_each_use_starts_unset():
    stop = StopSignal()
    with stop:
        os.kill(os.getpid(), signal.SIGTERM)
    with stop:
        assert stop.requested is None


def test_an_ignored_signal_stays_ignored():
    """A job in the background has its interrupts ignored by the shell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested is None
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_in_another_thread_nothing_happens():
    seen = []

    def body():
        before = signal.getsignal(signal.SIGTERM)
        with StopSignal() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM) == before))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [(None, True)]


def test_a_forked_worker_dies_when_terminated_and_outlives_an_interrupt():
    """Torch terminates its loader's workers, and waits for them; a Ctrl-C reaches them as well as the run."""
    with StopSignal() as stop:

        def body():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

        assert status_of_child(body) == 128 + signal.SIGTERM
        assert stop.requested is None


@BOTH
def test_a_signal_that_torchrun_passes_on_once_more_is_the_same(number):
    def twice():
        with StopSignal(patient=True) as stop:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            os._exit(stop.requested)

    assert status_of_child(twice) == number


@BOTH
def test_one_that_comes_later_ends_a_patient_process_too(number, monkeypatch):
    monkeypatch.setattr(signals, "_ECHO", 0.0)

    def twice():
        with StopSignal(patient=True):
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)

    assert status_of_child(twice) == 128 + number


@BOTH
def test_after_an_error_a_patient_process_has_time_to_report_it(number):
    def told():
        try:
            with StopSignal(patient=True):
                raise ValueError
        except ValueError:
            os.kill(os.getpid(), number)
            os._exit(5)

    assert status_of_child(told) == 5


def test_the_second_signal_says_what_the_disk_has(tmp_path):
    says = tmp_path / "stderr"

    def body():
        os.dup2(os.open(says, os.O_WRONLY | os.O_CREAT), 2)
        with StopSignal() as stop:
            stop.saved = "the last checkpoint is that of step 3"
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    assert status_of_child(body) == 130
    assert says.read_text() == "\nended at once; the last checkpoint is that of step 3\n"
