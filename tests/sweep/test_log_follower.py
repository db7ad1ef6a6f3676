"""The log of a run that another process writes is followed from where it was left."""

from __future__ import annotations

from kdspec.engine.run.event_log import EventLog
from kdspec.events import Evaluated, Note
from kdspec.sweep.log_follower import LogFollower


def evaluated(step, stage="distil"):
    return Evaluated(stage, step, "validation", "student", {"accuracy": step / 10}, True, "accuracy")


def test_only_what_was_added_is_read(tmp_path):
    log, follower = EventLog(tmp_path / "events.jsonl"), LogFollower(tmp_path / "events.jsonl")
    log.append(evaluated(1))
    log.append(Note("info", '"Evaluated"'))
    log.append(evaluated(1, "tune"))
    assert [event.step for event in follower.evaluations("distil")] == [1]
    assert list(follower.evaluations("distil")) == []
    log.append(evaluated(2))
    assert [event.step for event in follower.evaluations("distil")] == [2]


def test_half_a_line_is_read_when_it_is_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    EventLog(path).append(evaluated(1))
    line = path.read_bytes()
    path.write_bytes(line[:20])
    follower = LogFollower(path)
    assert list(follower.evaluations("distil")) == []
    path.write_bytes(line)
    assert [event.step for event in follower.evaluations("distil")] == [1]


def test_a_log_that_was_shortened_is_read_again(tmp_path):
    path = tmp_path / "events.jsonl"
    log, follower = EventLog(path), LogFollower(path)
    log.append(evaluated(1))
    first = path.read_bytes()
    log.append(evaluated(2))
    assert len(list(follower.evaluations("distil"))) == 2
    path.write_bytes(first)
    assert [event.step for event in follower.evaluations("distil")] == [1]


def test_a_log_that_is_not_there_or_damaged_has_no_events(tmp_path):
    path = tmp_path / "events.jsonl"
    follower = LogFollower(path)
    assert list(follower.evaluations("distil")) == []
    path.write_text('{"event": "Evaluated", broken\n')
    assert list(follower.evaluations("distil")) == []
