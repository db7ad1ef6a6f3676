"""The summary beside a log: a start reads only what was logged after it, and never trusts one of another log."""

from __future__ import annotations

import json
import os
import random

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run import event_log
from kdspec.engine.run.event_log import EventLog, read
from kdspec.engine.run.log import log_summary, log_tail
from kdspec.events import (
    CacheState,
    CheckpointSaved,
    Evaluated,
    Note,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
    stage_of,
)

STARTED = RunStarted("run", ("a", "b", "c"), {"torch": "2.13"}, 0, None)


def step_done(stage, step):
    return StepDone(stage, step, 0, 0.5, {}, {}, {}, None, 0.1, 4, 16, (0.5,))


def saved(stage, step):
    return CheckpointSaved(stage, step, f"checkpoints/{stage}/step-{step:08d}")


def finished(stage, step):
    return StageFinished(stage, step, 1.0, None, {}, stage)


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


@pytest.fixture
def parsed(monkeypatch):
    """The lines of logs that are parsed."""
    lines, real = [], event_log.parse

    def counting(line):
        lines.append(line)
        return real(line)

    monkeypatch.setattr(event_log, "parse", counting)
    return lines


def stage(name, steps, every=10):
    yield StageStarted(name, steps, 1.0, 16, 0)
    for step in range(1, steps + 1):
        yield step_done(name, step)
        if step % every == 0:
            yield saved(name, step)


class TestStarts:
    @pytest.mark.parametrize("steps", [20, 200, 2_000])
    def test_a_start_after_the_end_parses_nothing(self, path, steps, parsed):
        end = (finished("a", steps), RunFinished(1.0, {}))
        log_of(path, STARTED, *stage("a", steps, every=steps // 2), *end)
        summary = EventLog(path).summary
        assert (summary.over, summary.versions) == (True, {"torch": "2.13"})
        assert [mark.step for mark in summary.stages["a"].finished] == [steps]
        assert parsed == []

    @pytest.mark.parametrize(("steps", "left"), [(25, 5), (205, 5), (2_009, 9)])
    def test_going_on_parses_what_follows_the_checkpoint(self, path, steps, left, parsed):
        log_of(path, STARTED, *stage("a", steps))
        log = EventLog(path)
        log.trim("a", steps - left)
        assert len(parsed) == 2 * left
        log.append(step_done("a", steps - left + 1))
        assert len(parsed) == 2 * left
        assert [e.step for e in events_in(path) if isinstance(e, StepDone)] == list(range(1, steps - left + 2))

    def test_a_log_that_is_damaged_before_the_summary_is_started_from(self, path):
        log_of(path, STARTED, *stage("a", 2_000, every=1_000))
        with path.open("r+b") as file:
            file.seek(2_000)
            file.write(b"\0" * 50)
        log = EventLog(path)
        log.trim("a", 1_000)
        log.append(finished("a", 1_000))
        assert list(log.summary.stages) == ["a"]
        with pytest.raises(FindingError, match="KD003 line"):
            events_in(path)

    def test_damage_behind_the_summary_is_named_with_its_line(self, path):
        log_of(path, STARTED, *stage("a", 20))
        before = path.read_bytes().count(b"\n")
        with path.open("ab") as file:
            file.write(b"{}\n")
        with pytest.raises(FindingError, match=f"KD003 line {before + 1} of"):
            EventLog(path).trim("a", 20)


class TestOtherLogs:
    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"",
            lambda data: data[: len(data) // 2],
            lambda data: data.replace(b'"step": 20', b'"step": 21'),
            lambda data: data[data.index(b"\n") + 1 :],
        ],
        ids=["empty", "shorter", "other text", "without the first line"],
    )
    def test_a_summary_of_another_log_is_not_used(self, path, change):
        log_of(path, STARTED, *stage("a", 20), finished("a", 20), RunFinished(1.0, {}))
        path.write_bytes(change(path.read_bytes()))
        summary = EventLog(path).summary
        log_summary.path_of(path).unlink()
        assert summary == EventLog(path).summary

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"format": 2}', b"\0" * 9, b'{"format": 1, "offset": -5}', b"[" * 100_000]
    )
    def test_a_damaged_summary_is_as_none(self, path, content):
        log_of(path, STARTED, *stage("a", 20))
        expected = EventLog(path).summary
        log_summary.path_of(path).write_bytes(content)
        found = EventLog(path).summary
        found.digest = expected.digest
        assert found == expected

    @pytest.mark.parametrize("key", ["offset", "lines", "stages", "over", "versions", "digest"])
    @pytest.mark.parametrize("value", [None, -1, 2**70, "x", {"a": 1}])
    def test_a_summary_of_other_types_is_as_none(self, path, key, value):
        log_of(path, STARTED, *stage("a", 20))
        file = log_summary.path_of(path)
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
        assert list(EventLog(path).summary.stages) == ["a"]
        assert EventLog(path).summary.versions == {"torch": "2.13"}

    def test_a_log_without_a_summary_has_one_after_the_next_start(self, path):
        log_of(path, STARTED, *stage("a", 20))
        log_summary.path_of(path).unlink()
        log = EventLog(path)
        log.trim("a", 20)
        log.append(STARTED)
        assert log_summary.read(path) == log.summary

    def test_a_line_that_another_program_appends_makes_the_summary_void(self, path):
        log = log_of(path, STARTED, *stage("a", 20))
        with path.open("ab") as file:
            file.write(path.read_bytes().splitlines(keepends=True)[1])
        log.append(saved("a", 21))
        assert log.summary.lines == path.read_bytes().count(b"\n")


def by_a_full_pass(events, name, step, evaluates):
    """What a log holds after it is trimmed, from the rule: events of the stage after the step, and those of later stages."""
    stages = list(dict.fromkeys(stage_of(event) for event in events if stage_of(event)))
    later = set(stages[stages.index(name) + 1 :]) if name in stages else set()
    return [event for event in events if not event_log._is_undone(event, name, step, later, evaluates)]


class Life:
    """Runs that are killed and resumed at random, as a session logs them."""

    def __init__(self, path, seed):
        self.path, self.dice, self.log = path, random.Random(seed), EventLog(path)
        self.checkpoints = {"a": [], "b": []}

    def start(self):
        open_ = next((name for name, steps in self.checkpoints.items() if 12 not in steps), "b")
        kept = self.checkpoints[open_]
        if kept and self.dice.random() < 0.2:  # damaged
            kept.pop()
        step = kept[-1] if kept else 0
        evaluates = self.dice.random() < 0.3
        before = events_in(self.path) if self.path.exists() else []
        self.log.trim(open_, step, evaluates=evaluates)
        after = events_in(self.path) if self.path.exists() else []
        assert after == by_a_full_pass(before, open_, step, evaluates)
        if step and saved(open_, step) not in after:
            assert step not in [mark.step for mark in self.log.summary.stages[open_].saved]
            self.log.append(saved(open_, step))
        elif step:
            assert self.log.summary.stages[open_].saved[-1].step == step
        self.log.append(STARTED)
        if open_ == "b":
            self.log.append(StageSkipped("a", "already finished"))
        self.log.append(StageStarted(open_, 12, 1.0, 16, step))
        for number in range(step + 1, 13):
            if self.dice.random() < 0.07:
                return
            self.log.append(step_done(open_, number))
            if number % 3 == 0:
                kept.append(number)
                if self.dice.random() < 0.2:
                    return
                self.log.append(saved(open_, number))
                self.log.append(Evaluated(open_, number, "test", "s", {"accuracy": 0.5}, best=True))
            if self.dice.random() < 0.1:
                self.log.append(Note("info", "hot"))
        self.log.append(CacheState(open_, 12, "t", True, "", "", (), 1, 1, 1, 1, 1))
        self.log.append(finished(open_, 12))

    def reopen(self):
        lost = self.dice.random()
        if lost < 0.2:
            log_summary.path_of(self.path).unlink(missing_ok=True)
        elif lost < 0.4 and self.path.exists():
            os.truncate(self.path, self.path.stat().st_size - 3)
        self.log = EventLog(self.path)


@pytest.mark.parametrize("seed", range(12))
def test_a_log_is_trimmed_as_by_a_full_pass_however_often_a_run_is_killed(path, seed, monkeypatch):
    monkeypatch.setattr(event_log, "flush", lambda _: True)
    monkeypatch.setattr(log_summary, "_MARKS", 3)
    life = Life(path, seed)
    for _ in range(25):
        life.start()
        life.reopen()
        known = life.log.summary
        whole = log_summary.LogSummary()
        for line, (_, event) in event_log._lines(path):
            whole.take(event, len(line))
        whole.digest = known.digest
        for name, each in known.stages.items():
            every = whole.stages[name].saved
            # Of many checkpoints the last are known, fewer after some of them were removed.
            assert every[len(every) - len(each.saved) :] == each.saved
            whole.stages[name].saved = each.saved
        assert known == whole


class TestReplacedTails:
    def killed_after(self, monkeypatch, count):
        """Ends the process, so to say, at the operation of that number."""
        done = []

        def counting(real):
            def call(*arguments):
                if len(done) >= count:
                    raise KeyboardInterrupt
                done.append(real)
                return real(*arguments)

            return call

        monkeypatch.setattr(log_tail, "flush", counting(log_tail.flush))
        monkeypatch.setattr(log_tail, "sync", counting(log_tail.sync))

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_a_kill_leaves_the_old_part_or_the_new_one(self, path, count, monkeypatch):
        events = (STARTED, *stage("a", 12), Note("info", "kept"), step_done("a", 13))
        log = log_of(path, *events)
        self.killed_after(monkeypatch, count)
        try:
            log.trim("a", 10)
        except KeyboardInterrupt:
            monkeypatch.undo()
        again = EventLog(path)
        again.trim("a", 10)
        assert events_in(path) == [*events[:13], Note("info", "kept")]
        assert sorted(each.name for each in path.parent.iterdir()) == ["events.jsonl", "stages"]

    @pytest.mark.parametrize("part", [0, 1, 30, 200])
    def test_a_part_that_was_put_in_by_half_is_put_in_again(self, path, part):
        log = log_of(path, STARTED, *stage("a", 12), Note("info", "kept"))
        log.trim("a", 10)
        expected = path.read_bytes()
        start = expected.rindex(b"\n", 0, -1) + 1
        path.with_name(".events.jsonl.tail").write_bytes(f"{start:020d}\n".encode() + expected[start:])
        os.truncate(path, min(start + part, len(expected)))
        EventLog(path)
        assert path.read_bytes() == expected

    @pytest.mark.parametrize(
        "content", [b"", b"x" * 50, b"99999999999999999999\n", b"-0000000000000000001\n", b"0" * 20]
    )
    def test_a_damaged_part_is_not_put_in(self, path, content):
        log_of(path, STARTED)
        before = path.read_bytes()
        path.with_name(".events.jsonl.tail").write_bytes(content)
        EventLog(path)
        assert path.read_bytes() == before
        assert not path.with_name(".events.jsonl.tail").exists()
