"""Signs of life of the processes of a run, and which of them is the reason where they cannot talk any more."""

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
"""Seconds between two signs of life."""
_SILENCE = 3.0
"""Who has given none for so long, while no collective works any more, has ended."""
_ANSWER = timedelta(seconds=20)


def _store(place: Rank) -> Any:
    """A connection of its own to where the processes meet: one that waits would hold up the others on the same."""
    store, prefixed = dist.TCPStore, dist.PrefixStore  # type: ignore[attr-defined] # public, but not in its `__all__`
    found = store(place.address, place.port, is_master=False, timeout=_ANSWER)
    return prefixed(f"kdspec/{place.attempt}", found)


@dataclass
class Heartbeat:
    """Tells the other processes that this one lives, from its own thread, and asks after them.

    A store that does not answer any more has ended with the process that kept it; this one stops then as on SIGTERM.
    """

    place: Rank
    step: int = 0
    """The optimizer step that this process has come to."""
    _over: threading.Event = field(default_factory=threading.Event)
    _deaf: bool = False
    """Whether the store has not answered."""

    def start(self) -> None:
        """Begin to tell. To be called when the processes have met."""
        self._asking = _store(self.place)
        who = f"pid {os.getpid()} on {socket.gethostname()}"
        self._asking.set(f"who/{self.place.rank}", who)
        self._asking.set(f"beat/{self.place.rank}", "0 0")
        self._thread = threading.Thread(target=self._tell, args=(_store(self.place),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell no more."""
        self._over.set()
        self._thread.join()

    def post(self, key: str, text: str) -> None:
        """Leave word for the others under a key of this process, once."""
        try:
            self._asking.set(f"{key}/{self.place.rank}", text)
        except RuntimeError:
            return  # nobody is left to read it

    def wait(self, keys: Sequence[str], rank: int, seconds: float) -> bool:
        """Whether a process leaves word under one of the keys before so many seconds are over."""
        end = time.monotonic() + seconds
        while all(self._read(key, rank) is None for key in keys):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def culprit(self) -> str | None:
        """Which other processes have failed, have ended, do not answer, or are late; None where all wait for each other."""
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
        if self._deaf:
            return f"process 0 of {self.place.world} has ended, or torchrun, where all of them meet"
        silent = [r for r in self._others() if last.get(r) == first.get(r) and self._read("left", r) is None]
        if silent:
            has, does = ("has", "does") if len(silent) == 1 else ("have", "do")
            return f"{self._names(silent)} {has} ended, or {does} not answer"
        late = [rank for rank in self._others() if self._read("waits", rank) is None]
        return f"{self._names(late)} did not come to where the others wait, and may be too slow" if late else None

    def _names(self, ranks: Sequence[int]) -> str:
        return " and ".join(map(self._name, ranks))

    def _others(self) -> list[int]:
        return [rank for rank in range(self.place.world) if rank != self.place.rank]

    def _name(self, rank: int) -> str:
        who = self._read("who", rank)
        beat = self._read("beat", rank)
        details = [*([who] if who else []), *([f"last heard of in step {beat.split()[1]}"] if beat else [])]
        return f"process {rank} of {self.place.world}" + (f" ({', '.join(details)})" if details else "")

    def _beats(self) -> dict[int, str | None]:
        return {rank: self._read("beat", rank) for rank in self._others()}

    def _read(self, key: str, rank: int) -> str | None:
        try:
            name = f"{key}/{rank}"
            return self._asking.get(name).decode() if self._asking.check([name]) else None
        except RuntimeError:
            self._deaf = True
            return None

    def _tell(self, store: Any) -> None:
        beats = 0
        while not self._over.wait(_BEAT):
            beats += 1
            try:
                store.set(f"beat/{self.place.rank}", f"{beats} {self.step}")
            except RuntimeError:
                # torchrun itself was killed, or the process that keeps the store: nobody is left to stop this one.
                if not self._over.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)
                return
