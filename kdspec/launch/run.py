"""`kdspec.Run`: a finished run, by its folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.events import Record
from kdspec.launch.as_text import as_text
from kdspec.launch.errors import RunError, printed
from kdspec.launch.spec_argument import PluginLike, printed_findings, registry_with
from kdspec.launch.spec_reading import read_run
from kdspec.registry.registry import Registry
from kdspec.report import report


class Run:
    """A finished run. Its text is the table that `kdspec run` prints.

    Args:
        folder: of the run, such as `runs/my-run`.
        plugins: what `kdspec.run` was given, for a student or a report that needs them.
        trust_remote_code: whether the student may run code from its files.

    Raises:
        RunError: KD003 if it is no folder of a run, the run has not finished, or a file in it is damaged.
    """

    __module__ = "kdspec"

    def __init__(
        self, folder: str | Path, *, plugins: Sequence[PluginLike] = (), trust_remote_code: bool = False
    ) -> None:
        self.folder = Path(folder)
        self._plugins, self._trusts_code = tuple(plugins), trust_remote_code
        try:
            self._found = report.read(self.folder)
            if not self._found.table:
                message = f"the run in `{folder}` has not finished"
                help_ = "finish it with the command or the call that began it"
                raise FindingError(Finding("KD003", message, help=help_))
        except FindingError as error:
            raise RunError(*printed_findings(error)) from None

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each model, as in `table.json`: `model`, `role`, `task`, `split`, `metrics`, `parameters`, `bytes`,
        `latency_ms` and others. `pandas.DataFrame(run.table)` shows it.
        """
        return [dict(row) for row in self._found.table]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the student in the table, on rows that no stage has trained on.

        A student of several tasks has the name of the task before each, `task/metric`.
        """
        rows = self._rows
        if len(rows) == 1:
            return dict(rows[0]["metrics"])
        return {f"{row['task']}/{name}": value for row in rows for name, value in row["metrics"].items()}

    @property
    def report(self) -> Path:
        """The HTML report. It is written if the folder has none."""
        path = self.folder / "report.html"
        return path if path.is_file() else report.write(self._found, self._registry.plugins)

    @property
    def events(self) -> list[Record]:
        """All events with their times, oldest first, as `events.jsonl` has them: losses, metrics, warnings."""
        return list(self._found.records)

    @property
    def spec(self) -> str:
        """The complete spec as YAML, with every default."""
        return self._found.spec

    def student(self, task: str | None = None) -> Any:
        """The student, ready for use: the object `model` of the lines that `kdspec run` prints.

        Of a text classifier it is a pipeline of transformers, with `model` and `tokenizer`; of an encoder of texts a
        `SentenceTransformer`; of a model of a plugin its `torch.nn.Module`, in evaluation mode.

        Args:
            task: of several tasks of the student, the one whose head it has.

        Raises:
            ValueError: the student has several tasks and none is named, or another one is.
            RunError: the spec of the run cannot be read again, as a plugin is missing.
        """
        from kdspec.hf.saved.opened import opened

        tasks = [row["task"] for row in self._rows]
        if task is not None and task not in tasks:
            near = closest(task, tasks)
            hint = f"did you mean {near!r}?" if near else f"it has {', '.join(map(repr, tasks))}"
            raise ValueError(f"the student has no task {task!r}; {hint}")
        folder = self.folder / "student"
        if len(tasks) > 1 and (folder / tasks[0]).is_dir():
            if task is None:
                raise ValueError(f"the student has several tasks; name one of {', '.join(map(repr, tasks))}")
            folder /= task
        found = opened(folder, trusts_code=self._trusts_code)
        return self._built() if found is None else found

    def __repr__(self) -> str:
        from kdspec.render.table import caption, table

        return f"{as_text(table(self.table))}{caption(self.table)}\n\n{self.folder}\n"

    @cached_property
    def _registry(self) -> Registry:
        return registry_with(self._plugins)

    @property
    def _name(self) -> str:
        """The model that is the student: that of the last stage with a teacher, or of the last one."""
        if self._found.plan is None:
            students = [row["model"] for row in self._found.table if row["role"] == "student"]
            return str((students or [row["model"] for row in self._found.table])[-1])
        stages = self._found.plan["stages"]
        return str(([stage for stage in stages if stage["teachers"]] or list(stages))[-1]["student"])

    @property
    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in self.table if row["model"] == self._name]

    def _built(self) -> Any:
        """The student as the engine builds it, from the spec."""
        from kdspec.engine.forward.models import Models
        from kdspec.engine.forward.trained_heads import with_downloads
        from kdspec.engine.prediction.class_names import heads

        name, trained = self._name, {self._name: self.folder / "student"}
        try:
            reading = read_run(self.folder, self._registry, trusts_code=self._trusts_code)
            if reading.plan is None:
                raise RunError(reading.diagnostics, printed(reading.diagnostics, reading.sources))
            plan = with_downloads(reading.plan)
            return Models(plan, heads(plan, name, trained), trained).module(name).eval()
        except FindingError as error:
            raise RunError(*printed_findings(error)) from error
