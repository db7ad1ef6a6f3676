"""A run: the stages of a plan in order, in a folder that one process holds, with an event for whatever happens."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdspec.context import BuildContext
from kdspec.diagnostics import Diagnostic, DiagnosticError
from kdspec.engine import export
from kdspec.engine.backend import Backend, SingleProcess
from kdspec.engine.blame import blaming
from kdspec.engine.event_log import EventLog
from kdspec.engine.files import atomic_write, cannot_write
from kdspec.engine.lock import RunLock
from kdspec.engine.models import Models
from kdspec.engine.signals import StopSignal
from kdspec.engine.stage import StageRun
from kdspec.engine.table import Row, table
from kdspec.events import Event, Note, RunFailed, RunFinished, RunStarted, StageFinished, StageSkipped
from kdspec.kinds import BuiltTask
from kdspec.outline import outline
from kdspec.plan import Plan, PlannedStage
from kdspec.plugins import Plugin
from kdspec.registry import Registry
from kdspec.resolve import resolved


@dataclass(frozen=True)
class Result:
    """What a run has come to."""

    folder: Path
    table: tuple[Row, ...]
    """A row for each model that took part."""
    student: Path
    """The folder of the student."""
    stages: tuple[StageFinished, ...] = ()
    already_finished: bool = False
    """Whether there was nothing left to do."""


@dataclass
class Session:
    """A plan on its way to a result.

    Args:
        plan: what to run.
        registry: the components and observers.
        output: the folder in which the run's own folder lies.
        restart: begin anew, putting aside what an earlier run with this name has left.
        device: where to compute; the first GPU, or the CPU where there is none.
    """

    plan: Plan
    registry: Registry
    output: Path = Path("runs")
    restart: bool = False
    device: str | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    """Where observers keep what they need from one event to the next."""
    _silent: set[str] = field(default_factory=set)
    """Observers that raised, and are not called again."""

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return self.output / self.plan.spec.name

    def run(self) -> Result:
        """Run the stages that are not finished, then compare the models.

        Raises:
            Interrupted: a signal came; the same command continues.
            DiagnosticError: KD5xx.
        """
        began = time.perf_counter()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        with RunLock(self.folder), StopSignal() as stop:
            if self.restart:
                self._put_aside()
            self.log = EventLog(self.folder / "events.jsonl")
            try:
                return self._stages(stop, began)
            except DiagnosticError as error:
                first = error.diagnostics[0]
                self.emit(RunFailed(first.code, first.message))
                raise

    def emit(self, event: Event) -> None:
        """Record an event and show it to the observers; one that raises is reported once and left alone."""
        self.log.append(event)
        for answer in self.registry.plugins.call("kdspec_observe", event=event, session=self):
            name = _who(answer.plugin)
            if answer.error is not None and name not in self._silent:
                self._silent.add(name)
                self.registry.plugins.silence(answer.plugin, "kdspec_observe")
                reason = f"{type(answer.error).__name__}: {answer.error}"
                self.emit(Note("warning", f"observer {name} raised {reason}; it is not called again"))

    def _stages(self, stop: StopSignal, began: float) -> Result:
        finished = {name: record for name in self.plan.spec.stages if (record := self._record(name))}
        self._same_spec(finished)
        first_open = next((s.name for s in self.plan.stages if s.name not in finished), None)
        if first_open is None and (old := self._old_table()) is not None:
            return Result(self.folder, old, self.student_folder, already_finished=True)
        self._write_plan()
        spec = self.plan.spec
        resumed = self._resumed_step(first_open)
        if first_open is not None:
            self.log.trim(first_open, resumed or 0)
        self.emit(RunStarted(spec.name, tuple(spec.stages), export.versions(), spec.seed, resumed))
        tasks = {name: self._task(name) for name in dict.fromkeys(t for s in self.plan.stages for t in s.tasks)}
        heads = {name: task.head for name, task in tasks.items()}
        trained = {self._stage(n).needs.student: self.folder / r["folder"] for n, r in finished.items()}
        models = Models(self.plan, heads, trained)
        done = []
        for stage in self.plan.stages:
            if stage.name in finished:
                self.emit(StageSkipped(stage.name, "finished already"))
                continue
            done.append(self._run_stage(stage, models, tasks[stage.tasks[0]], stop))
        rows = table(self.plan, models, tasks)
        self._export(models)
        result = Result(self.folder, rows, self.student_folder, tuple(done))
        seconds = time.perf_counter() - began
        atomic_write(self.folder / "table.json", json.dumps([vars(row) for row in rows], indent=2) + "\n")
        self.emit(RunFinished(seconds, {row.model: vars(row) for row in rows}))
        return result

    @property
    def student_folder(self) -> Path:
        """Where the student of the run is: that of the last stage with a teacher, or of the last stage."""
        return self.folder / "student"

    def _final(self) -> PlannedStage:
        taught = [stage for stage in self.plan.stages if stage.needs.teachers]
        return (taught or list(self.plan.stages))[-1]

    def _run_stage(self, stage: PlannedStage, models: Models, task: BuiltTask, stop: StopSignal) -> StageFinished:
        backend: Backend = SingleProcess(self._device(), stage.training.precision)
        run = StageRun(
            self.plan, stage, registry=self.registry, models=models, task=task, folder=self.folder,
            backend=backend, emit=self.emit, stop=stop,
        )  # fmt: skip
        finished = run.run()
        record = {"stage": stage.name, "digest": self._digest(stage.name), **_plain(finished)}
        export.write_card(self.folder / finished.folder, self.plan, stage, finished.metrics)
        (self.folder / "stages").mkdir(exist_ok=True)
        atomic_write(self.folder / "stages" / f"{stage.name}.json", json.dumps(record, indent=2) + "\n")
        self.emit(finished)
        return finished

    def _device(self) -> str:
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def _task(self, name: str) -> BuiltTask:
        component = self.plan.spec.tasks[name]
        with blaming(self.plan.spec, ("tasks", name, component.name), f"task `{name}`"):
            return component.build(BuildContext(folder=self.plan.spec.document.folder, name=name))

    def _stage(self, name: str) -> PlannedStage:
        return next(stage for stage in self.plan.stages if stage.name == name)

    def _record(self, name: str) -> dict[str, Any] | None:
        """What a finished stage has left, or None."""
        path = self.folder / "stages" / f"{name}.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if (self.folder / str(record.get("folder", "?"))).is_dir() else None

    def _same_spec(self, finished: Mapping[str, Mapping[str, Any]]) -> None:
        """A run continues only what it began: another spec under the same name is another run."""
        begun = self.folder / "digests.json"
        try:
            former: dict[str, str] = json.loads(begun.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            former = {name: str(record.get("digest")) for name, record in finished.items()}
        now = {stage.name: self._digest(stage.name) for stage in self.plan.stages}
        started = [n for n in now if n in finished or (self.folder / "checkpoints" / n).is_dir()]
        changed = [name for name in started if former.get(name) != now[name]]
        if changed:
            spec = self.plan.spec
            label = spec.label(("stages", changed[0]), "not as it was begun", key=True)
            message = f"stage `{changed[0]}` of run `{spec.name}` was begun with another spec"
            notes = tuple(self._differences())
            help_ = "give the spec another `name`, or begin anew with `--restart` (the old run is put aside)"
            raise DiagnosticError(Diagnostic("KD509", message, label, notes=notes, help=help_))
        atomic_write(begun, json.dumps(now, indent=2) + "\n")

    def _differences(self) -> list[str]:
        """What differs between the spec that the run was begun with and this one, one line each."""
        import yaml

        try:
            former = yaml.safe_load((self.folder / "spec.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            return []
        now = yaml.safe_load(resolved(self.plan))
        return list(_differences(former, now, ""))[:8]

    def _digest(self, name: str) -> str:
        """A fingerprint of all that the result of a stage depends on: itself and the stages before it."""
        written = self.plan.spec.model_dump(mode="json", by_alias=True)
        names = list(written["stages"])
        upto = {key: written["stages"][key] for key in names[: names.index(name) + 1]}
        for stage in upto.values():
            for key in ("log_every", "checkpoint"):  # what neither data nor weights depend on
                stage["training"].pop(key)
        parts = {key: written[key] for key in ("seed", "tasks", "models", "adaptors")} | {"stages": upto}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _resumed_step(self, stage: str | None) -> int | None:
        from kdspec.engine.checkpoint import CheckpointStore

        steps = CheckpointStore(self.folder / "checkpoints" / stage).steps() if stage is not None else []
        return steps[-1] if steps else None

    def _write_plan(self) -> None:
        atomic_write(self.folder / "spec.yaml", resolved(self.plan))
        atomic_write(self.folder / "plan.json", json.dumps(outline(self.plan), indent=2) + "\n")

    def _old_table(self) -> tuple[Row, ...] | None:
        try:
            rows = json.loads((self.folder / "table.json").read_text(encoding="utf-8"))
            return tuple(Row(**row) for row in rows) if self.student_folder.is_dir() else None
        except (OSError, ValueError, TypeError):
            return None

    def _export(self, models: Models) -> None:
        """Copy the final student to `student/`, whole or not at all."""
        source = models.trained[self._final().needs.student]
        fresh, old = self.folder / ".student", self.student_folder
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(source, fresh)
        shutil.rmtree(old, ignore_errors=True)
        fresh.rename(old)

    def _put_aside(self) -> None:
        """Move what an earlier run has left into a folder of its own; nothing is deleted."""
        names = [p for p in self.folder.iterdir() if not p.name.startswith((".lock", "earlier-"))]
        if not names:
            return
        number = 1 + len(list(self.folder.glob("earlier-*")))
        aside = self.folder / f"earlier-{number}"
        aside.mkdir()
        for path in names:
            path.rename(aside / path.name)


def _plain(finished: StageFinished) -> dict[str, Any]:
    from kdspec.events import to_json

    return {key: value for key, value in to_json(finished).items() if key != "event"}


def _differences(former: Any, now: Any, path: str) -> Any:
    if isinstance(former, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*former, *now)):
            at = f"{path}.{key}" if path else str(key)
            if key not in former:
                yield f"`{at}` is new"
            elif key not in now:
                yield f"`{at}` is gone"
            else:
                yield from _differences(former[key], now[key], at)
    elif former != now:
        yield f"`{path}` was `{json.dumps(former)}` and is `{json.dumps(now)}`"


def _who(plugin: Plugin) -> str:
    return f"{plugin.distribution} ({plugin.origin})"
