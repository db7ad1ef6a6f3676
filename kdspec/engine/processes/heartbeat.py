"""Heartbeats of the processes of a run, to find the one that failed when a collective breaks."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from kdspec.engine.processes.torchrun import Rank

_BEAT = 0.5
"""Seconds between two heartbeats."""
_SILENCE = 3.0
"""Seconds without a heartbeat, after a collective has failed, that mean that a process has ended."""
_ANSWER = timedelta(seconds=20)


def _store(place: Rank) -> Any:
    """A separate connection to the store of the process group: a blocking call would delay others on the same one."""
    store, prefixed = dist.TCPStore, dist.PrefixStore  # type: ignore[attr-defined] # public, but not in its `__all__`
    found = store(place.address, place.port, is_master=False, timeout=_ANSWER)
    return prefixed(f"kdspec/{place.attempt}", found)


@dataclass
class Heartbeat:
    """Writes this process's heartbeats to the store from a thread, and reads those of the others.

    A store that does not respond has ended with the process that kept it; this process then stops as on SIGTERM.
    """

    place: Rank
    step: int = 0
    """The current optimizer step of this process."""
    _over: threading.Event = field(default_factory=threading.Event)
    _unresponsive: bool = False
    """Whether the store does not respond."""

    def start(self) -> None:
        """Start the thread. Call it when the process group exists."""
        self._connection = _store(self.place)
        who = f"pid {os.getpid()} on {socket.gethostname()}"
        self._connection.set(f"who/{self.place.rank}", who)
        self._connection.set(f"beat/{self.place.rank}", "0 0")
        self._thread = threading.Thread(target=self._beat, args=(_store(self.place),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def post(self, key: str, text: str) -> None:
        """Write a message for the other processes under a key of this process."""
        try:
            self._connection.set(f"{key}/{self.place.rank}", text)
        except RuntimeError:
            return  # the store has ended, and so have its readers

    def wait(self, keys: Sequence[str], rank: int, seconds: float) -> bool:
        """Whether a process writes a message under one of the keys within the given seconds."""
        end = time.monotonic() + seconds
        while all(self._read(key, rank) is None for key in keys):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def culprit(self) -> str | None:
        """The other processes that have failed, ended, do not respond, or are late; None if all wait for each other."""
        # A process whose collective failed says that it waits: one that neither waits nor is silent is busy, so late.
        self.post("waits", "")
        begun, first = time.monotonic(), self._beats()
        while True:
            for rank in self._others():
                if (reason := self._read("fell", rank)) is not None:
                    return f"{self._name(rank)} has failed: {reason}"
            if time.monotonic() - begun > _SILENCE:
                break
            time.sleep(0.1)
        last = self._beats()
        if self._unresponsive:
            return f"process 0 of {self.place.world} or torchrun, which keeps the store, has ended"
        silent = [r for r in self._others() if last.get(r) == first.get(r) and self._read("left", r) is None]
        if silent:
            has, does = ("has", "does") if len(silent) == 1 else ("have", "do")
            return f"{self._names(silent)} {has} ended, or {does} not respond"
        late = [rank for rank in self._others() if self._read("waits", rank) is None]
        return (
            f"{self._names(late)} did not reach the collective that the others wait in, and may be too slow"
            if late
            else None
        )

    def _names(self, ranks: Sequence[int]) -> str:
        return " and ".join(map(self._name, ranks))

    def _others(self) -> list[int]:
        return [rank for rank in range(self.place.world) if rank != self.place.rank]

    def _name(self, rank: int) -> str:
        who = self._read("who", rank)
        beat = self._read("beat", rank)
        details = [*([who] if who else []), *([f"last heartbeat in step {beat.split()[1]}"] if beat else [])]
        return f"process {rank} of {self.place.world}" + (f" ({', '.join(details)})" if details else "")

    def _beats(self) -> dict[int, str | None]:
        return {rank: self._read("beat", rank) for rank in self._others()}

    def _read(self, key: str, rank: int) -> str | None:
        try:
            name = f"{key}/{rank}"
            return self._connection.get(name).decode() if self._connection.check([name]) else None
        except RuntimeError:
            self._unresponsive = True
            return None

    def _beat(self, store: Any) -> None:
        beats = 0
        while not self._over.wait(_BEAT):
            beats += 1
            try:
                store.set(f"beat/{self.place.rank}", f"{beats} {self.step}")
            except RuntimeError:
                # torchrun or the process that keeps the store was killed, so no one else will stop this process.
                if not self._over.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)
                return
