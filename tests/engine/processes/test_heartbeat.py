"""Which process is the reason where processes cannot talk any more."""

from __future__ import annotations

import os
import signal
import socket
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from kdspec.engine.processes import heartbeat
from kdspec.engine.processes.heartbeat import Heartbeat
from kdspec.engine.processes.torchrun import Rank


@pytest.fixture
def three(monkeypatch):
    """The pulses of three processes, all of them in this one."""
    monkeypatch.setattr(heartbeat, "_BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "_SILENCE", 0.5)
    monkeypatch.setattr(heartbeat, "_ANSWER", timedelta(seconds=2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    pulses = [Heartbeat(Rank(rank, 3, rank, 3, "127.0.0.1", port)) for rank in range(3)]
    for each in pulses:
        each.start()
    yield pulses
    for each in pulses:
        each.stop()
    del store


def test_where_all_wait_for_each_other_none_is_the_reason(three):
    for each in three[1:]:
        each.post("waits", "")
    assert three[0].culprit() is None


def test_one_that_lives_but_does_not_come_is_named(three):
    three[1].post("waits", "")
    told = three[0].culprit()
    assert told.startswith("process 2 of 3 (")
    assert told.endswith("did not reach the collective that the others wait in, and may be too slow")


def test_one_that_gives_no_sign_is_named_with_its_process_and_step(three):
    three[1].step = 7
    while (three[0]._read("beat", 1) or "").split()[-1] != "7":
        time.sleep(0.01)
    three[1].stop()
    named = f"process 1 of 3 (pid {os.getpid()} on {socket.gethostname()}, last heartbeat in step 7)"
    assert three[0].culprit() == f"{named} has ended, or does not respond"


def test_two_that_give_no_sign_are_both_named(three):
    three[0].stop()
    three[1].stop()
    told = three[2].culprit()
    assert told.startswith("process 0 of 3 (")
    assert " and process 1 of 3 (" in told
    assert told.endswith("have ended, or do not respond")


def test_one_that_failed_is_named_with_its_reason_and_those_that_followed_it_are_not(three):
    three[1].post("fell", "KD511 out of memory")
    assert three[0].culprit().endswith("has failed: KD511 out of memory")
    three[2].post("left", "because of 1")
    three[2].stop()
    assert three[0].culprit().startswith("process 1 of 3")


def test_one_that_left_because_of_another_is_not_the_reason(three):
    three[2].post("left", "because of 1")
    for each in three[1:]:
        each.stop()
    assert "process 2" not in three[0].culprit()


def test_a_process_waits_for_the_report_of_the_main_process(three):
    assert not three[1].wait(("fell", "left"), 0, seconds=0.05)
    three[0].post("left", "because of 2")
    assert three[1].wait(("fell", "left"), 0, seconds=5)


def test_a_store_that_has_ended_stops_the_process_as_a_scheduler_would(three, monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))

    class Ended:
        def set(self, key, value):
            raise RuntimeError("connection closed")

    three[0]._beat(Ended())
    assert sent == [(os.getpid(), signal.SIGTERM)]
