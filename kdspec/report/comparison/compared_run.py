"""One of several runs that are compared, read from its folder: spec, figures, cost and curves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kdspec.api.report import Report
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.events import (
    CacheState,
    Evaluated,
    Record,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
)
from kdspec.report import report
from kdspec.report.digest import Digest
from kdspec.source.document import parse

LOG = "events.jsonl"
RunStatus = Literal["finished", "failed", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """What is compared of a run, which may be unfinished."""

    folder: Path
    name: str
    """The name of its folder."""
    status: RunStatus
    reason: str = ""
    """Why it failed, or how far it has come."""
    settings: Mapping[str, Any]
    """The complete spec as data; empty if there is none yet."""
    reads: Mapping[str, str]
    """What it has read, in words, with the checksums."""
    versions: Mapping[str, str]
    """The versions of the libraries at its last start."""
    stage: str
    """The stage that trains the student of the run."""
    student: str
    selected_by: str
    """The metric that selects the best student; empty if it is not known."""
    lower_is_better: bool
    """Whether lower values of that metric are better."""
    validation: Mapping[str, float]
    """The metrics of the best student of the stage on the validation rows; empty without an evaluation."""
    table: Sequence[Mapping[str, Any]]
    """The rows of the student, one for each of its tasks; empty before the end of the run."""
    cost: RunCost
    digest: Digest
    damaged: Sequence[str]
    """A text for each damaged line of the log."""

    @property
    def seed(self) -> Any:
        """The seed as the spec has it: a number, or the name of a variable."""
        return self.settings.get("seed")

    @property
    def value(self) -> float | None:
        """The validation metric that selects the best student; None without an evaluation."""
        return self.validation.get(self.selected_by)


@dataclass
class RunCost:
    """What a run has cost so far, over all its starts."""

    seconds: float = 0.0
    """Training time of the finished stages."""
    steps: int = 0
    """Optimizer steps of all stages."""
    starts: int = 0
    computed: int = 0
    """Rows that teachers have computed for their caches."""
    cached: int = 0
    """Rows that were read from the caches."""


@dataclass
class _Tally:
    """Collects what the digest of a log leaves out, while the digest is made."""

    steps: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each stage the steps that are done, and all."""
    ends: dict[str, StageFinished] = field(default_factory=dict)
    best: dict[str, Evaluated] = field(default_factory=dict)
    """For each stage the evaluation of the best student so far."""
    last: dict[str, Evaluated] = field(default_factory=dict)
    caches: dict[tuple[int, str, str], CacheState] = field(default_factory=dict)
    """The last state of each cache, by start, stage and teacher."""
    starts: int = 0

    def over(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each of which is noted."""
        for record in records:
            self._take(record.event)
            yield record

    def _take(self, event: Any) -> None:
        match event:
            case RunStarted():
                self.starts += 1
            case StageStarted():
                self.steps[event.stage] = event.start_step, event.steps
            case StepDone():
                self.steps[event.stage] = event.step, max(event.step, self.steps.get(event.stage, (0, 0))[1])
            case Evaluated():
                self.last[event.stage] = event
                if event.best:
                    self.best[event.stage] = event
            case StageFinished():
                self.ends[event.stage] = event
                self.steps[event.stage] = event.step, event.step
            case CacheState():
                self.caches[self.starts, event.stage, event.teacher] = event

    def cost(self) -> RunCost:
        caches = self.caches.values()
        return RunCost(
            seconds=sum(end.seconds for end in self.ends.values()),
            steps=sum(done for done, _ in self.steps.values()),
            starts=self.starts,
            computed=sum(cache.computed for cache in caches),
            cached=sum(cache.hits for cache in caches),
        )


def read_run(folder: Path) -> ComparedRun:
    """Read the folder of a run, finished or not.

    Raises:
        FindingError: KD003 if it is not the folder of a run, or its table or plan is damaged.
        DiagnosticError: its spec is damaged.
    """
    found, tally = report.read(folder), _Tally()
    digest = Digest.of(tally.over(found.records))
    if not tally.starts and found.damaged:
        message = f"`{folder}` is not the folder of a run: its `{LOG}` has no event of kdspec"
        raise FindingError(Finding("KD003", message, notes=(found.damaged[0],), help="leave it out"))
    stage, student = _final(found, digest)
    rows = tuple(row for row in found.table if row["model"] == student)
    end, last = tally.ends.get(stage), tally.last.get(stage)
    best = tally.best.get(stage)
    status, reason = _status(digest, tally)
    selected_by = (last.selected_by if last is not None else "") or (rows[0]["selected_by"] if rows else "")
    return ComparedRun(
        folder=folder,
        name=folder.name if folder.name not in ("", ".", "..") else folder.resolve().name,
        status=status,
        reason=reason,
        settings=_settings(found),
        reads={_words(read): str(read["digest"]) for read in found.reads},
        versions={} if digest.start is None else digest.start.versions,
        stage=stage,
        student=student,
        selected_by=selected_by,
        lower_is_better=(last is not None and last.lower_is_better)
        or any(selected_by in row["lower_is_better"] for row in rows),
        validation=end.metrics if end is not None else best.metrics if best is not None else {},
        table=rows,
        cost=tally.cost(),
        digest=digest,
        damaged=found.damaged,
    )


def _final(found: Report, digest: Digest) -> tuple[str, str]:
    """The stage that trains the student of the run, and that model: the last one with teachers, or the last one."""
    stages = [] if found.plan is None else found.plan["stages"]
    if stages:
        last = ([stage for stage in stages if stage["teachers"]] or stages)[-1]
        return last["name"], last["student"]
    begun = [name for name in digest.begun if name in digest.stages]
    return (begun[-1], digest.stages[begun[-1]].model) if begun else ("", "")


def _status(digest: Digest, tally: _Tally) -> tuple[RunStatus, str]:
    match digest.ending.found.event if digest.ending.found else None:
        case RunFinished():
            return "finished", ""
        case RunFailed() as failure:
            return "failed", f"{failure.code} {failure.message}"
        case _:
            name, (done, steps) = next(reversed(tally.steps.items()), ("", (0, 0)))
            return "unfinished", f"{name} {done:,}/{steps:,}" if name else "no step is done"


def _settings(found: Report) -> Mapping[str, Any]:
    data = parse(found.spec, str(found.folder / "spec.yaml")).data if found.spec else None
    return data if isinstance(data, dict) else {}


def _words(read: Mapping[str, Any]) -> str:
    """What is read, in words: `rows of train, tasks.reviews.data`."""
    return f"{read['content']}, {read['place']}" if read["place"] else str(read["content"])
