"""Runs killed at random moments and started again, until each has ended: the same weights and events as without a kill.

    python tests/properties/kills.py --kills 50
    python tests/properties/kills.py --strategy whole --terminations 50

Each strategy is killed so often, by SIGKILL: at any moment, while a checkpoint is written, or while a teacher cache is
filled. With `--terminations` it gets SIGTERM instead, at any moment, and must end with 143 within five seconds. `whole` is the
command `kdspec run` with two stages, evaluations, a cache, an export and a report. What was imported is there once; each
start is a fork of it, which costs a fraction of a second. It ends with 1 where a run has not ended as it should.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from kdspec.cli import main
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.teacher_cache import samples as blocks
from kdspec.engine.teacher_cache.segment_index import records
from kdspec.events import CheckpointSaved, Evaluated, StageFinished, StepDone
from kdspec.registry.registry import Registry
from kdspec.testing import plan, registry, tiny

HERE = Path(__file__).parent
TOYS = HERE.parent / "shared" / "toys.py"
MOMENTS = ("any", "save")
SHARE = 0.35
"""Of the kills, those that are to hit a save, and those that are to hit a cache, where there is one."""
HANGS = 120.0
LIMIT = 5.0
"""Seconds from SIGTERM to the end of a process."""
FEWEST = 7
"""Minimum number of samples of a strategy; each row of a task is a sample."""
MEMORY = Path("/dev/shm")
"""Files here outlive a killed process as those of a disk do, and syncing them takes no time."""
TRAINING = """
    training:
      epochs: 4
      batch_size: 2
      optimizer: {adamw: {lr: 0.01}}
      checkpoint: {every_steps: 1}
      teacher_cache: {use: CACHE, folder: caches}
      evaluate: {every_steps: 4}
      log_every: 1
"""
GENERAL = """\
kdspec: 1
name: run
seed: 3
tasks: {rows: {tensors: {data: {ragged: {train: 11, validation: 5, gaps: 4}}, labels: label}}}
models: {teacher: {toy: {width: 6, depth: 3}}, student: {toy: {dropout: 0.2}}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  student: {logits: output.logits, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        hard_labels: {weight: 0.5}
        matches: [{feature: hidden, loss: hidden_mse, layers: {3: 2}}]
"""
WHOLE = """\
kdspec: 1
name: run
tasks: {rows: {tensors: {data: {ragged: {train: 11, validation: 5, gaps: 4}}, labels: label}}}
models: {teacher: {toy: {width: 6, depth: 3}}, student: {toy: {dropout: 0.2}}}
adaptors:
  teacher: {logits: output.logits, labels: batch.label}
  student: {logits: output.logits, labels: batch.label}
stages:
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {steps: 4, batch_size: 3, log_every: 1, evaluate: {every_steps: 2, metric: loss}}
  distil:
    distiller: {general: {teacher: teacher, student: student}}
"""
THESEUS = """\
kdspec: 1
name: run
tasks: {reviews: {sequence_classification: {data: {csv: {train: rows.csv, validation: rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2}, initialize: {layers: [0, 1]}}}
stages:
  distil:
    distiller: {theseus: {teacher: teacher, student: student}}
"""


@dataclass
class Accumulator:
    """What the kills of one strategy have hit."""

    strategy: str
    kills: int = 0
    in_a_save: int = 0
    """A checkpoint lay there half written."""
    in_a_cache: int = 0
    """A cache lay there half filled."""
    runs: int = 0
    """Runs that have come to their end."""
    seconds: float = 0.0
    slowest: float = 0.0
    """Seconds from SIGTERM to the end, of the slowest start; on a machine that is busy, as if it were not."""
    wrong: list[str] = field(default_factory=list)


def module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"_kills_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


Subject = Callable[[Path], int]
"""Runs a strategy into a folder, and returns the exit code."""


def subject(text: str, known: Registry, folder: Path) -> Subject:
    made = plan(text, known, folder=folder)

    def run(output: Path) -> int:
        try:
            Session(made, known, output=output, device="cpu").run()
        except Interrupted as stopped:
            return 128 + stopped.signal
        return 0

    return run


def general(folder: Path) -> Subject:
    return subject(GENERAL + TRAINING.replace("CACHE", "on"), registry(TOYS), folder)


def multi_task(folder: Path) -> Subject:
    tests = module(HERE.parent / "engine" / "step" / "test_multi_task.py")
    text = tests.TOYS[: tests.TOYS.index("\n    training:")].replace("name: toy", "name: run")
    return subject(text + TRAINING.replace("CACHE", "on"), registry(TOYS, tests.Forked), folder)


def theseus(folder: Path) -> Subject:
    """A plugin's strategy, which reads nothing of its teacher that could be cached."""
    package = HERE.parents[1] / "plugins" / "kdspec-theseus"
    sys.path.insert(0, str(package))
    known = registry(module(package / "kdspec_theseus" / "__init__.py"))
    tiny(folder / "tiny", layers=4)
    rows = "".join(
        f"{word} {number},{'yes' if number % 2 else 'no'}\n" for number, word in enumerate(["good", "bad"] * 5)
    )
    (folder / "rows.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    return subject(THESEUS + TRAINING.replace("CACHE", "off"), known, folder)


def whole(folder: Path) -> Subject:
    """The command, from the text of the spec to the report."""
    (folder / "spec.yaml").write_text(WHOLE + TRAINING.replace("CACHE", "on"), encoding="utf-8")
    arguments = ["--plugin", str(TOYS), "run", str(folder / "spec.yaml"), "--device", "cpu", "--output"]
    return lambda output: main([*arguments, str(output)])


STRATEGIES: dict[str, Callable[[Path], Subject]] = {
    "general": general,
    "multi_task": multi_task,
    "theseus": theseus,
    "whole": whole,
}


class Harness:
    """One strategy: how a run of it ends, and runs that are killed and resume."""

    def __init__(self, strategy: str, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice, self.accumulator = folder, dice, Accumulator(strategy)
        self.subject = STRATEGIES[strategy](folder)
        self.output, self.stopped = folder / "killed", False
        self._finish(self.start(folder / "warm"))
        self._import_what_it_has()
        began = time.perf_counter()
        self._finish(self.start(folder / "whole"))
        self.caches = (folder / "caches").is_dir()
        self.duration = time.perf_counter() - began
        self.expected = outcome(folder / "whole" / "run")

    def start(self, output: Path) -> int:
        """The process of a new start."""
        child = os.fork()
        if not child:
            code = 9
            try:
                code = self.subject(output)
                if output.name == "warm":
                    (output / "modules").write_text("\n".join(sys.modules), encoding="utf-8")
            finally:
                sys.stderr.flush()
                os._exit(code)
        return child

    def _import_what_it_has(self) -> None:
        """Once for all starts. Not by a run here: after a backward pass torch refuses another one in a fork."""
        names = (self.folder / "warm" / "modules").read_text(encoding="utf-8").split("\n")
        for name in names:
            if name not in sys.modules and not name.startswith("_"):
                with suppress(Exception):
                    importlib.import_module(name)

    def run(self, kills: int) -> Accumulator:
        began = time.perf_counter()
        while self.accumulator.kills < kills:
            self._kill_once(self._moment())
        self._end(self.start(self.output))
        self.accumulator.seconds = round(time.perf_counter() - began, 1)
        return self.accumulator

    def terminate(self, signals: int) -> Accumulator:
        """Send SIGTERM so often, at any moment: a start ends with 143, or with 0 if it was over, and is resumed."""
        began, self.stopped = time.perf_counter(), True
        while self.accumulator.kills < signals:
            child = self.start(self.output)
            self._wait(child, "any")
            sent, load = time.monotonic(), pressure()
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            status = os.waitpid(child, 0)[1]
            seconds = (time.monotonic() - sent) / max(load, pressure())
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                self._end(child, status)
                continue
            self.accumulator.kills += 1
            self.accumulator.slowest = max(self.accumulator.slowest, round(seconds, 2))
            # Before the first line of ours a signal ends the process by itself, which a shell tells as 143 too.
            if code not in (143, -signal.SIGTERM) or seconds > LIMIT:
                self.accumulator.wrong.append(f"after SIGTERM a start ended with {code}, after {seconds:.1f} s")
        self._end(self.start(self.output))
        self.accumulator.seconds = round(time.perf_counter() - began, 1)
        return self.accumulator

    def _moment(self) -> str:
        """What has been hit too seldom so far, if anything has."""
        due = SHARE * self.accumulator.kills
        seldom = ["save"] if self.accumulator.in_a_save <= due else []
        seldom += ["cache"] if self.caches and self.accumulator.in_a_cache <= due else []
        return self.dice.choice(seldom or MOMENTS)

    def _kill_once(self, moment: str) -> None:
        if moment == "cache":
            shutil.rmtree(self.folder / "caches", ignore_errors=True)
        child = self.start(self.output)
        self._wait(child, moment)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            self._end(child, status)
            return
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            self._end(child, status)
            return
        self.accumulator.kills += 1
        self.accumulator.in_a_save += bool(list(self.output.glob("run/checkpoints/*/.tmp-*")))
        self.accumulator.in_a_cache += any(half(index) for index in self.folder.glob("caches/*/index"))

    def _wait(self, child: int, moment: str) -> None:
        """Until the moment has come, or the run has ended."""
        if moment == "any":
            time.sleep(self.dice.uniform(0, self.duration))
            return
        checkpoints, caches = self.output / "run" / "checkpoints", self.folder / "caches"
        saves = self.dice.randrange(1, 8)
        until = time.monotonic() + HANGS
        last = None
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < until:
            time.sleep(0.0002)
            if moment == "cache" and any(half(index) for index in caches.glob("*/index")):
                return
            now = next((path.name for path in checkpoints.glob("*/.tmp-*")), None) if moment == "save" else None
            if now is not None and now != last:
                last, saves = now, saves - 1
                if not saves:
                    time.sleep(self.dice.uniform(0, 0.002))
                    return

    def _finish(self, child: int) -> None:
        assert os.waitpid(child, 0)[1] == 0, "a run without a kill fails"

    def _end(self, child: int, status: int | None = None) -> None:
        """Compare a finished run, and let the next one start from the beginning."""
        status = os.waitpid(child, 0)[1] if status is None else status
        self.accumulator.runs += 1
        if status:
            self.accumulator.wrong.append(f"after {self.accumulator.kills} kills a start ended with {status}")
        elif differs := self._differs(outcome(self.output / "run")):
            self.accumulator.wrong.append(
                f"after {self.accumulator.kills} kills a run has other {' and '.join(differs)}"
            )
        shutil.rmtree(self.output)
        shutil.rmtree(self.folder / "caches", ignore_errors=True)

    def _differs(self, found: Outcome) -> list[str]:
        """What is not as without a signal. A run that is told to end saves where it is: the log has that checkpoint too."""
        mine, theirs = (
            one._replace(events=[event for event in one.events if not isinstance(event, CheckpointSaved)])
            if self.stopped
            else one
            for one in (found, self.expected)
        )
        return [name for name, one, other in zip(mine._fields, mine, theirs, strict=True) if one != other]


def pressure() -> float:
    """How many times longer work takes than on a machine that has nothing else to do."""
    began, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < 0.05:
        pass
    return max(1.0, (time.perf_counter() - began) / (time.process_time() - used))


class Outcome(NamedTuple):
    """All that a run has come to, to the bit."""

    weights: dict[str, Any]
    checkpoint: dict[str, Any]
    events: list[Any]
    report: bool


def outcome(folder: Path) -> Outcome:
    """The student, the last checkpoint, and what the log tells of training."""
    kinds = (StepDone, Evaluated, CheckpointSaved, StageFinished)
    events = [record.event for record in read(folder / "events.jsonl") if isinstance(record.event, kinds)]
    told = [replace(event, seconds=0.0) if hasattr(event, "seconds") else event for event in events]
    last = max(folder.glob("checkpoints/*/step-*"))
    return Outcome(
        {path.relative_to(folder).as_posix(): bits(path) for path in sorted(folder.glob("student/**/*.safetensors"))},
        {path.name: bits(path) for path in sorted(last.glob("*.safetensors"))},
        told,
        (folder / "report.html").is_file(),
    )


def bits(path: Path) -> dict[str, tuple[Any, ...]]:
    return {
        name: (tensor.dtype, tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in load_file(path).items()
    }


def half(index: Path) -> bool:
    """Whether some samples of a cache are there and others are not."""
    try:
        found, _ = records(index.read_bytes())
    except OSError:
        return False
    return 0 < len(set().union(*(record.keys() for record in found))) < FEWEST


def command() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="for each strategy")
    parser.add_argument("--terminations", type=int, help="send SIGTERM so often instead")
    parser.add_argument("--strategy", action="append", choices=STRATEGIES, help="all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; how far a run has come then differs")
    given = parser.parse_args()
    blocks.ROWS = 2  # a cache of several blocks, with so few rows
    well = True
    for strategy in given.strategy or STRATEGIES:
        with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
            harness = Harness(strategy, Path(folder), random.Random(given.seed))
            signals = given.terminations
            accumulator = harness.run(given.kills) if signals is None else harness.terminate(signals)
        sys.stdout.write(json.dumps(vars(accumulator)) + "\n")
        sys.stdout.flush()
        well &= not accumulator.wrong
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(command())
