"""What a piece of work costs by the clock of its own thread, whatever else the process and the machine do meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object]) -> float:
    """The processor's seconds of `work`, without the collector, which in a process of many tests takes longer than it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        began = time.thread_time()
        work()
        return time.thread_time() - began
    finally:
        if collects:
            gc.enable()
