"""Stops a command on a signal: within seconds in every phase, and at the end of a step while it trains."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STEP = 2.5
"""Seconds for which a signal waits for the end of a step. A longer step is cut: its end would not be in time."""
_LIMIT = 4.0
"""Seconds from a signal to the end of the process, whatever it does: one less than what is promised."""
_SAVING = 20.0
"""The same while a checkpoint is written. Schedulers kill after 30 seconds."""
_AGAIN = 1.0
"""Seconds after which a stop is raised again, where something has swallowed it."""
_ECHO = 3.0
"""Seconds within which torchrun may forward a signal that the process has already received."""
_TICK = 0.1
"""Seconds between two looks at the clock after a signal; and how long a stuck main thread has for a second signal."""


class Stop(BaseException):
    """Raised in the main thread by a signal. No `Exception`, so that no `except` around a plugin's code swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopSignal:
    """A context in which SIGINT and SIGTERM stop what runs: the first one raises `Stop`, a second one ends the process.

    `requested` is the signal's number, or None. The exit status of a process that ends by itself is 128 plus the number.

    A signal is noted at once, and `Stop` raised in the main thread between two of its bytecodes. Nothing has to be saved
    then: files are complete or absent at any moment, which is what makes runs survive a kill. Only `held` puts it off, while
    a step changes weights or a checkpoint is written. Python runs the handler when a call of C returns, and anything may
    swallow an exception, or sleep in a `finally`; so a thread, which a pipe wakes at the signal itself, raises again, and ends
    the process when the time is over.

    Outside the main thread, where Python delivers no signals, nothing happens.

    With `patient`, for processes of torchrun, nothing is raised, since the other processes would wait in a collective: they
    agree on the end of a step, and each process ends when the time is over. A repeated signal within a few seconds is the same
    signal: torchrun forwards signals that the terminal or the scheduler has already sent to the process. After an error it
    keeps ignoring signals: torchrun terminates all processes as soon as the first one has ended, and they still have to report
    the reason.

    With `ends_process=False`, for a program that goes on after the run, such as a notebook, the process is never ended: a second
    signal raises `Stop` at once, `held` or not, since files are complete or absent.

    Args:
        patient: whether the process is one of several.
        owns_process: whether the process ends with the context: one of several then goes on to ignore the signals of torchrun.
        ends_process: whether a second signal, or the end of its time, ends the process.
    """

    def __init__(self, *, patient: bool = False, owns_process: bool = False, ends_process: bool = True) -> None:
        self.requested: int | None = None
        self.patient, self.owns_process, self.ends_process = patient, owns_process, ends_process
        self.saved = ""
        """What the disk has, and how to go on, for the message of a process that ends."""
        self._since = 0.0
        self._hold = 0.0
        """Seconds from the signal in which it raises nothing."""
        self._saves = False
        self._over = False
        """Whether the stop has reached the code that reports it, so that it is not raised again."""
        self._asked = False
        """Whether the thread, and no signal, calls the handler."""
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._restored: tuple[int, Any] | None = None

    def __enter__(self) -> Self:
        self.requested, self._over, self._asked = None, False, False
        self._hold, self._saves = 0.0, False
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Ignored signals, as in a background job, stay ignored; None is a handler that Python did not install.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
            if self._before:
                self._watch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        while self._before:
            number, before = self._before.popitem()
            signal.signal(
                number, signal.SIG_IGN if self.patient and (self.owns_process or error is not None) else before
            )
        if self._pipe is not None and self._restored is not None:
            wakes, sys.unraisablehook = self._restored
            signal.set_wakeup_fd(wakes)
            os.write(self._pipe[1], b"\0")
            self._thread.join()
            for end in self._pipe:
                os.close(end)
            self._pipe = None

    @contextmanager
    def held(self, seconds: float, *, saves: bool = False) -> Iterator[None]:
        """A context in which a signal raises nothing for so many seconds; at the end it does, if there was one.

        Args:
            seconds: from the signal.
            saves: a checkpoint is written, for which the process has longer.
        """
        before = self._hold, self._saves
        self._hold, self._saves = max(seconds, self._hold), saves or self._saves
        try:
            yield
        finally:
            self._hold, self._saves = before
        self.check()

    def saving(self) -> Any:
        """A context in which a checkpoint is written: no signal cuts it, until the process has to end."""
        return self.held(_SAVING, saves=True)

    def check(self) -> None:
        """Raise `Stop` if there was a signal and nothing puts it off."""
        if self.requested is not None and self._due():
            raise Stop(self.requested)

    def made(self, error: BaseException | None) -> bool:
        """Whether an error was made of the stop, by code that makes errors of all that is raised in it."""
        while error is not None and self.requested is not None:
            if isinstance(error, Stop):
                return True
            error = error.__cause__ or error.__context__
        return False

    @property
    def late(self) -> bool:
        """Whether the time of the process is nearly over."""
        return self.requested is not None and time.monotonic() - self._since >= _ECHO

    def arrived(self, *, reports: bool = False) -> None:
        """From here on the end of what ran is told: nothing is raised any more.

        Args:
            reports: the reason of a failure is told, for which the process has as long as for a checkpoint.
        """
        self._over = True
        self._saves = self._saves or reports

    def _due(self) -> bool:
        return not (self._over or self.patient) and time.monotonic() - self._since >= self._hold

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self._process:
            # A forked worker inherits this handler. SIGTERM must end it. A Ctrl-C reaches the whole process group and must
            # not, because the run needs its workers to finish the step.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self._asked:
            self._asked = False
        elif self.requested is None:
            self.requested, self._since = number, time.monotonic()
        elif not (self.patient and time.monotonic() - self._since < _ECHO):
            if self.ends_process:
                self._end(number)
            self._hold = 0.0
        self.check()

    def _end(self, number: int) -> None:
        if self.saved:
            os.write(2, f"\nended at once; {self.saved}\n".encode(errors="replace"))
        os._exit(128 + number)

    def _watch(self) -> None:
        self._pipe = _pipe()
        self._restored = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False), sys.unraisablehook
        # What is raised in a destructor is printed with a traceback and not raised; the thread raises it again.
        tells = sys.unraisablehook
        sys.unraisablehook = lambda told: None if isinstance(told.exc_value, Stop) else tells(told)
        # A signal to a forked process must not wake the thread of this one.
        os.register_at_fork(after_in_child=partial(_forget, weakref.ref(self)))
        self._thread = threading.Thread(target=self._wait, args=(self._pipe[0],), daemon=True, name="kdspec-signals")
        self._thread.start()

    def _wait(self, pipe: int) -> None:
        clock, main = Clock(patient=lambda: self.patient), threading.main_thread().ident
        assert main is not None, "it runs"
        while True:
            select.select([pipe], [], [], None if clock.first is None else _TICK)
            try:
                woken = os.read(pipe, 1024)
            except BlockingIOError:
                woken = b""
            if 0 in woken:
                return
            now = time.monotonic()
            clock.hear([number for number in woken if number in _SIGNALS], now)
            if clock.first is None:
                continue
            if self.ends_process and clock.ends(now, saves=self._saves):
                self._end(clock.first)
            if self.requested is not None and self._due() and clock.asks(now):
                self._asked = True
                # A real signal: it wakes a main thread that sleeps in a call of the system.
                signal.pthread_kill(main, clock.first)


class Clock:
    """When a process ends that has heard signals, and when its main thread is asked again.

    Args:
        patient: whether a signal soon after the first one is the same.
    """

    def __init__(self, patient: Callable[[], bool]) -> None:
        self.first: int | None = None
        self._patient = patient
        self._begun = self._asked = 0.0
        self._second: float | None = None
        self._echoes = 0
        """Signals that this process has sent to itself, and not heard yet."""

    def hear(self, numbers: Iterable[int], now: float) -> None:
        """Signals, by the time in seconds at which they are heard."""
        for number in numbers:
            if self.first is None:
                self.first, self._begun, self._asked = number, now, now
            elif self._echoes:
                self._echoes -= 1
            elif self._second is None and not (self._patient() and now - self._begun < _ECHO):
                self._second = now

    def ends(self, now: float, *, saves: bool) -> bool:
        """Whether the process ends now: its time is over, or there was a second signal and its main thread is stuck."""
        stuck = self._second is not None and now - self._second >= _TICK
        return stuck or now - self._begun >= (_SAVING if saves else _LIMIT)

    def asks(self, now: float) -> bool:
        """Whether the main thread is asked again, by a signal that counts as none."""
        if now - self._asked < _AGAIN:
            return False
        self._asked, self._echoes = now, self._echoes + 1
        return True


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def _forget(kept: weakref.ref[StopSignal]) -> None:
    stop = kept()
    if stop is not None and stop._pipe is not None:  # noqa: SLF001 - of this module
        with suppress(ValueError):  # a fork of another thread than the main one
            signal.set_wakeup_fd(-1)
