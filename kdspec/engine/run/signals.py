"""Stops a run on a signal at the end of its step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_ECHO = 3.0
"""Seconds within which torchrun may forward a signal that the process has already received."""


class StopSignal:
    """A context in which the first SIGINT or SIGTERM only sets `requested`, and a second one ends the process at once.

    `requested` is the signal's number, or None. The exit status after a second signal is 128 plus its number. Outside the
    main thread, where Python delivers no signals, nothing happens.

    With `patient`, for processes of torchrun, a repeated signal within a few seconds is the same signal: torchrun forwards
    signals that the terminal or the scheduler has already sent to the process. After an error it keeps ignoring signals:
    torchrun terminates all processes as soon as the first one has ended, and they still have to report the reason.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested: int | None = None
        self.patient = patient
        self.saved = ""
        """What the disk has of the run, for the message of a second signal."""
        self._since = 0.0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.requested = None
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Ignored signals, as in a background job, stay ignored; None is a handler that Python did not install.
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
            # A forked worker inherits this handler. SIGTERM must end it. A Ctrl-C reaches the whole process group and must
            # not, because the run needs its workers to finish the step.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.requested is not None:
            if self.patient and time.monotonic() - self._since < _ECHO:
                return
            if self.saved:
                os.write(2, f"\nended at once; {self.saved}\n".encode(errors="replace"))
            os._exit(128 + number)
        self.requested, self._since = number, time.monotonic()
