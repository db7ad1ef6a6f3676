from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.engine.run import signals
from kdspec.engine.run.signals import Clock, Stop, StopSignal

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
def test_the_first_signal_is_raised_at_once(number):
    with StopSignal() as stop:
        assert stop.requested is None
        with pytest.raises(Stop) as caught:
            os.kill(os.getpid(), number)
        assert (stop.requested, caught.value.number) == (number, number)
    assert not issubclass(Stop, Exception)


@BOTH
def test_what_is_held_is_finished_first(number):
    done = []

    def work(stop):
        with stop.held(60):
            os.kill(os.getpid(), number)
            with stop.saving():
                done.append("saved")
            done.append("step")
        done.append("more")

    with StopSignal() as stop, pytest.raises(Stop):
        work(stop)
    assert done == ["saved", "step"]


def test_what_is_held_too_long_is_cut():
    began = time.monotonic()

    def work(stop):
        with stop.held(0.2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    with StopSignal() as stop, pytest.raises(Stop):
        work(stop)
    assert time.monotonic() - began < 10


def test_an_error_in_what_is_held_is_not_hidden():
    def work(stop):
        with stop.held(60):
            os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError("mine")

    with StopSignal() as stop, pytest.raises(ValueError, match="mine"):
        work(stop)


@BOTH
def test_the_second_signal_ends_the_process_at_once(number):
    def body():
        with StopSignal() as stop, stop.held(60):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), number)

    assert status_of_child(body) == 128 + number


@BOTH
def test_the_second_signal_ends_a_process_that_is_stuck_in_a_call(number):
    """Python runs the handler of the main thread when the call returns."""

    def body():
        with StopSignal():
            timers = [threading.Timer(0.1 * n, os.kill, (os.getpid(), number)) for n in (1, 2)]
            for timer in timers:
                timer.start()
            stuck()

    began = time.monotonic()
    assert status_of_child(body) == 128 + number
    assert time.monotonic() - began < 15


def stuck():
    """A call of C that lets other threads run, and returns after a minute or more."""
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 200_000_000)


SLEEPERS = {
    "a call of C": stuck,
    "an observer that swallows everything": lambda: swallow(60),
    "a finally": lambda: asleep_in_the_end(60),
}


def swallow(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(BaseException):
            time.sleep(seconds)


def asleep_in_the_end(seconds):
    try:
        time.sleep(seconds)
    finally:
        swallow(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLEEPERS)
def test_nothing_holds_the_process(name, tmp_path):
    says = tmp_path / "stderr"

    def body():
        os.dup2(os.open(says, os.O_WRONLY | os.O_CREAT), 2)
        with StopSignal() as stop:
            stop.saved = "nothing is saved"
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            SLEEPERS[name]()

    began = time.monotonic()
    assert status_of_child(body) == 143
    assert time.monotonic() - began < 15
    assert says.read_text() == "\nended at once; nothing is saved\n"


def test_a_stop_that_was_swallowed_is_raised_again():
    def work():
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    with StopSignal(), pytest.raises(Stop):
        work()


def test_one_in_a_destructor_is_not_printed_and_comes_again(capfd):
    class Torn:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def work():
        made = Torn()
        del made
        time.sleep(60)

    hook = sys.unraisablehook
    with StopSignal(), pytest.raises(Stop):
        work()
    assert sys.unraisablehook is hook
    assert capfd.readouterr().err == ""


def test_once_it_is_told_it_is_not_raised_again():
    with StopSignal() as stop:
        with pytest.raises(Stop):
            os.kill(os.getpid(), signal.SIGTERM)
        stop.arrived()
        time.sleep(1.3)
        stop.check()


def test_an_error_that_was_made_of_it_is_known():
    with StopSignal() as stop:
        assert not stop.made(ValueError())

        def wrapped():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException as error:
                raise RuntimeError from error

        with pytest.raises(RuntimeError) as caught:
            wrapped()
        assert stop.made(caught.value)
        assert not stop.made(ValueError())


AT = st.floats(0, 30)


@given(step=st.floats(0.01, 0.5), saves=st.booleans())
def test_the_time_of_a_process_is_over_within_what_is_promised(step, saves):
    clock, now = Clock(lambda: False), 100.0
    clock.hear([15], now)
    while not clock.ends(now, saves=saves):
        if clock.asks(now):
            clock.hear([15], now)  # its own
        now += step
    assert 4 <= now - 100 <= (20 if saves else 4) + step < 30


@given(gap=AT, patient=st.booleans())
def test_a_second_signal_counts_unless_torchrun_may_have_sent_it(gap, patient):
    clock = Clock(lambda: patient)
    clock.hear([2], 0)
    clock.hear([15], gap)
    ended = clock.ends(gap + 0.2, saves=True)
    assert ended == (not (patient and gap < 3) or gap + 0.2 >= 20)


@given(asked=st.integers(0, 5), real=st.integers(0, 3))
def test_its_own_signals_count_as_none(asked, real):
    clock, now = Clock(lambda: False), 0.0
    clock.hear([15], now)
    for _ in range(asked):
        now += 1.5
        assert clock.asks(now)
        clock.hear([15], now)
    clock.hear([15] * real, now)
    assert clock.ends(now + 0.2, saves=True) == bool(real)


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
    with stop, suppress(Stop):
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
        with StopSignal() as stop, stop.held(60):
            stop.saved = "the last checkpoint is that of step 3"
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    assert status_of_child(body) == 130
    assert says.read_text() == "\nended at once; the last checkpoint is that of step 3\n"
