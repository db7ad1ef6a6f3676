from __future__ import annotations

import json
import os
import random
import resource
from datetime import UTC, datetime, timedelta

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.event_log import EventLog, read
from kdspec.events import (
    CheckpointSaved,
    Evaluated,
    Note,
    RunFailed,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
)


def step_done(stage, step):
    return StepDone(stage, step, 0, 0.5, {}, {}, {}, None, 0.1, 4, 16, (0.5,))


def stage_events(stage, steps, start=0):
    """What a stage logs: a checkpoint and an evaluation at every second step."""
    yield StageStarted(stage, 4, 1.0, 16, start)
    for step in range(start + 1, steps + 1):
        yield step_done(stage, step)
        if step % 2 == 0:
            yield Evaluated(stage, step, "validation", "student", {"accuracy": 0.5}, best=True)
            yield CheckpointSaved(stage, step, f"checkpoints/{stage}/step-{step:08d}")


STARTED = RunStarted("run", ("a", "b", "c"), {}, 0, None)
FINISHED = StageFinished("a", 4, 1.0, None, {}, "a")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def log_of(path, *events):
    log = EventLog(path)
    for event in events:
        log.append(event)
    return log


def events_in(path):
    return [record.event for record in read(path)]


def test_an_appended_event_is_read_with_its_time(path):
    log_of(path, STARTED, step_done("a", 1))
    log_of(path, Note("info", "ünïcode\nand a second line\N{LINE SEPARATOR}"))
    records = list(read(path))
    assert [record.event for record in records][:2] == [STARTED, step_done("a", 1)]
    assert len(records) == 3
    assert all(abs(datetime.now(UTC) - record.time) < timedelta(minutes=5) for record in records)


def test_lines_are_strict_json(path):
    log_of(path, Evaluated("a", 1, "test", "student", {"loss": float("nan")}, best=False))

    def refused(word):
        raise AssertionError(word)

    assert json.loads(path.read_text(), parse_constant=refused)["metrics"] == {"loss": "nan"}


def test_opening_an_absent_log_writes_nothing(path):
    EventLog(path).trim("a", 0)
    assert not path.exists()


class TestTornLines:
    @pytest.mark.parametrize("cut", range(1, 40))
    def test_a_torn_last_line_is_left_out_and_then_removed(self, path, cut):
        log_of(path, STARTED, Note("info", "before"), Note("info", "torn"))
        os.truncate(path, path.stat().st_size - cut)
        assert events_in(path) == [STARTED, Note("info", "before")]
        log_of(path, Note("info", "after"))
        assert events_in(path) == [STARTED, Note("info", "before"), Note("info", "after")]

    @pytest.mark.parametrize("size", [10, 65_535, 65_536, 65_537, 200_000])
    def test_a_torn_line_may_be_long_or_all_there_is(self, path, size):
        path.write_bytes(b"{" * size)
        assert events_in(path) == []
        EventLog(path)
        assert path.read_bytes() == b""
        log_of(path, STARTED)
        with path.open("ab") as file:
            file.write(b"\0" * size)
        log_of(path, FINISHED)
        assert events_in(path) == [STARTED, FINISHED]

    def test_a_whole_log_is_not_touched(self, path):
        log_of(path, STARTED, FINISHED)
        before = path.read_bytes()
        EventLog(path)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "line", ["", "{}", "[1]", "null", '{"time": "now", "event": "Note"}', "[" * 100_000, "\udc80"]
    )
    def test_any_other_damaged_line_is_reported_by_its_number(self, path, line):
        log = log_of(path, STARTED)
        with path.open("ab") as file:
            file.write(line.encode(errors="surrogateescape") + b"\n")
        log.append(FINISHED)
        before = path.read_bytes()
        for damaged in (lambda: list(read(path)), lambda: log.trim("a", 0)):
            with pytest.raises(FindingError, match="KD003 line 2 of "):
                damaged()
        assert path.read_bytes() == before


class TestTrimming:
    def test_a_resumed_run_ends_in_the_log_of_one_that_never_stopped(self, path, tmp_path):
        log_of(tmp_path / "whole", STARTED, *stage_events("a", 4), FINISHED, *stage_events("b", 4))
        stopped = [STARTED, *stage_events("a", 4), FINISHED, *stage_events("b", 3)]
        log = log_of(path, *stopped)
        log.trim("b", 2)
        assert events_in(path) == stopped[:-1]
        for event in list(stage_events("b", 4, start=2))[1:]:
            log.append(event)
        assert events_in(path) == events_in(tmp_path / "whole")

    def test_later_stages_are_forgotten_and_earlier_ones_kept(self, path):
        first = [STARTED, *stage_events("a", 4), FINISHED]
        log = log_of(path, *first, *stage_events("b", 4), StageSkipped("c", "wanted"))
        log.trim("a", 4)
        assert events_in(path) == first[:-1]
        log.trim("a", 0)
        assert events_in(path) == [STARTED, first[1]]

    def test_the_order_of_stages_is_that_of_their_first_beginning(self, path):
        """A restart logs the finished ones again, as skipped."""
        log = log_of(path, *stage_events("a", 4), *stage_events("b", 3), STARTED, StageSkipped("a", "finished already"))
        log.trim("b", 2)
        assert StageSkipped("a", "finished already") in events_in(path)
        assert step_done("b", 3) not in events_in(path)

    def test_records_without_a_stage_are_kept(self, path):
        log = log_of(path, STARTED, *stage_events("a", 3), Note("warning", "hot"), RunFailed("KD501", "nan"))
        log.trim("a", 0)
        assert events_in(path)[-2:] == [Note("warning", "hot"), RunFailed("KD501", "nan")]

    def test_a_restart_after_the_step_is_forgotten(self, path):
        log = log_of(path, *stage_events("a", 4), StageStarted("a", 4, 1.0, 16, 3), StageStarted("a", 4, 1.0, 16, 2))
        log.trim("a", 2)
        assert [e.start_step for e in events_in(path) if isinstance(e, StageStarted)] == [0, 2]

    def test_a_stage_that_never_began_changes_nothing(self, path):
        log = log_of(path, STARTED, *stage_events("a", 4))
        before = path.read_bytes()
        log.trim("b", 0)
        assert path.read_bytes() == before

    def test_a_refused_trim_leaves_the_log(self, path):
        log = log_of(path, STARTED, *stage_events("a", 4))
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(FindingError, match="KD508"):
                log.trim("a", 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert sorted(entry.name for entry in path.parent.iterdir()) == ["events.jsonl", "stages"]


@pytest.mark.parametrize("room", [0, 1, 30])
def test_an_event_that_does_not_fit_on_the_disk_leaves_no_torn_line(path, room):
    log = log_of(path, STARTED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
    try:
        with pytest.raises(FindingError, match="KD508"):
            log.append(FINISHED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append(FINISHED)
    assert events_in(path) == [STARTED, FINISHED]
    assert path.read_bytes().count(b"\n") == 2


def test_a_log_truncated_anywhere_can_be_read_and_continued(path):
    log_of(path, STARTED, *stage_events("a", 4))
    whole, dice = path.read_bytes(), random.Random(0)
    for _ in range(40):
        end = dice.randrange(len(whole) + 1)
        path.write_bytes(whole[:end])
        lines = whole[:end].count(b"\n")
        assert len(events_in(path)) == lines
        log_of(path, FINISHED)
        assert len(events_in(path)) == lines + 1


def test_a_log_that_is_not_there_cannot_be_read(path):
    with pytest.raises(FindingError, match="KD003"):
        list(read(path))
