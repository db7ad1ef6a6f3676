"""Stopping on a signal at a moment of the run's own choosing."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_ECHO = 3.0
"""Seconds in which torchrun passes on a signal that a process has had already."""


class StopSignal:
    """Inside, the first SIGINT or SIGTERM only sets `requested`; a second one ends the process at once.

    `requested` is the signal's number, or None. The exit status of the second is 128 plus its number. Outside of the
    main thread, where Python takes no signals, nothing happens.

    A `patient` one is for a process that torchrun has started, which passes on the signals that the terminal or the
    scheduler has sent already: another one within a few seconds is the same. After an error it stays deaf, for torchrun
    terminates all others as soon as the first process has ended, and they have still to tell why.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested: int | None = None
        self.patient = patient
        self._since = 0.0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.requested = None
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # One that is ignored, as in a background job, stays ignored; one of another language has no value here.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, signal.SIG_IGN if self.patient and error is not None else before)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self._process:
            # A forked worker has this handler too. It must die when it is terminated, and live on when a Ctrl-C in the
            # terminal reaches the whole group, for the run needs it to finish its step.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.requested is not None:
            if self.patient and time.monotonic() - self._since < _ECHO:
                return
            os._exit(128 + number)
        self.requested, self._since = number, time.monotonic()
