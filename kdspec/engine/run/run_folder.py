"""The folder of a run: finished stages, their models, the table, the student, and the files of earlier runs."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel
from safetensors import SafetensorError

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.evaluation.result_row import ResultRow, read_table
from kdspec.engine.run.checkpoint import CheckpointStore
from kdspec.engine.run.durable_files import atomic_write, cannot_write, sha256, sync
from kdspec.engine.run.lock import RunLock
from kdspec.events import StageFinished, from_json, to_json
from kdspec.planning.outline import outline
from kdspec.planning.resolved import resolved
from kdspec.source import read_back
from kdspec.source.read_back import Damage, Form, PathText

T = TypeVar("T")

_MODEL = re.compile(r"models/[^/\0]+")


class _Origin(BaseModel):
    """What is read of `plan.json` to find the paths of its spec."""

    folder: PathText | None = None


class _Variables(BaseModel):
    """What is kept of the environment variables of a spec."""

    salt: str
    values: dict[str, str]


_VARIABLES: Form[_Variables] = Form(_Variables)
_ORIGIN: Form[_Origin] = Form(_Origin)
_WEIGHTS: Form[dict[str, str] | None] = Form(dict[str, str] | None)


class RunFolder:
    """Reads and writes the folder, for the process that holds its lock. Raises KD508 if it cannot be written."""

    def __init__(self, path: Path, lock: RunLock | None = None) -> None:
        self.path, self.lock = path, lock

    def refuse_links(self) -> None:
        """Raises KD508 if the folder or a file in it is a symbolic link: a run writes, moves and deletes only in it."""
        for path in _links(self.path):
            message = f"`{path}` is a symbolic link, and a run writes only into its own folder"
            help_ = "remove the link; use `--output` to write elsewhere"
            raise FindingError(Finding("KD508", message, help=help_))

    def check(self) -> None:
        """Raises KD508 if the locked folder is gone or another one has its name."""
        if self.lock is not None:
            self.lock.check()

    @property
    def student(self) -> Path:
        """The student of the run, which can be loaded without kdspec."""
        return self.path / "student"

    @property
    def log(self) -> Path:
        """The events."""
        return self.path / "events.jsonl"

    def model(self, name: str) -> Path:
        """A model that a stage has trained."""
        return self.path / "models" / name

    def checkpoints(self, stage: str, keep: int = 1) -> CheckpointStore:
        """The checkpoints of a stage."""
        return CheckpointStore(self.path / "checkpoints" / stage, keep)

    def checkpoint_bytes(self, stage: str | None = None) -> int:
        """The bytes of the checkpoints of a stage, or of all."""
        place = self.path / "checkpoints" / (stage or "")
        return sum(path.stat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink())

    def finished(self, stages: Iterable[str]) -> dict[str, StageFinished]:
        """The finished stages that still have their model, with the events of their ends.

        Raises:
            FindingError: KD504 if such a record is damaged, or the weights of the model do not match their checksums.
        """
        there: dict[str, StageFinished] = {}
        for name in stages:
            try:
                event, weights = _end(read_back.mapping(self._record(name)), name)
            except FileNotFoundError:
                continue
            except ValueError as damage:
                message = f"the record of stage `{name}` is damaged: `{self._record(name)}`: {damage}"
                help_ = "restore the file, or remove it to finish the stage again from its last checkpoint"
                raise FindingError(Finding("KD504", message, help=help_)) from damage
            if (self.path / event.folder).is_dir():
                there[name] = event
                self._check_weights(name, self.path / event.folder, weights)
        return there

    def has_ended(self, stage: str) -> bool:
        """Whether there is a record of the end of a stage; it is not read."""
        return self._record(stage).is_file()

    def finish(self, event: StageFinished) -> None:
        """Record that a stage has ended, so that it is not run again."""
        self.check()
        self._make(self._record(event.stage).parent)
        record = {**to_json(event), "weights": _checksums(self.path / event.folder)}
        atomic_write(self._record(event.stage), json.dumps(record, indent=2) + "\n")

    def take_over(self, model: Path) -> None:
        """Drop the checksums of a model that is about to be written from the records of earlier stages that wrote it."""
        at = str(model.relative_to(self.path))
        for path in sorted((self.path / "stages").glob("*.json")):
            try:
                record = json.loads(self.text(f"stages/{path.name}") or "")
            except (ValueError, RecursionError):  # `finished` reports it
                continue
            if isinstance(record, dict) and record.get("folder") == at and record.get("weights") is not None:
                atomic_write(path, json.dumps({**record, "weights": None}, indent=2) + "\n")

    def reopen(self, stage: str) -> None:
        """Remove the record that a stage and the run have ended: the stage resumes from its last checkpoint."""
        for path in (self.path / "table.json", self._record(stage)):
            with _writing(path):
                path.unlink(missing_ok=True)

    def table(self) -> tuple[ResultRow, ...] | None:
        """The table of a finished run; None if it has to be made, or made again because it is damaged."""
        with suppress(FindingError):
            rows = read_table(self.path / "table.json")
            return rows if rows and self.student.is_dir() else None
        return None

    def keep_table(self, rows: Iterable[ResultRow]) -> None:
        """Write the table, which marks the run as finished."""
        atomic_write(self.path / "table.json", json.dumps([asdict(row) for row in rows], indent=2) + "\n")

    def text(self, name: str) -> str | None:
        """The text of a file; None if there is none, or no text."""
        try:
            return read_back.text(self.path / name)
        except (OSError, Damage):
            return None

    def read(self, name: str, form: Form[T]) -> T | None:
        """The value in a JSON file of this form; None if there is none. Raises KD003, with the place, if it is damaged."""
        try:
            return read_back.read(self.path / name, form)
        except FileNotFoundError:
            return None
        except Damage as damage:
            raise read_back.refused(
                self.path / name, damage, help="restore the file, or start again with `--restart`"
            ) from damage

    def write(self, name: str, text: str) -> None:
        """Replace a file atomically."""
        atomic_write(self.path / name, text)

    def write_plan(self, plan: Plan) -> None:
        """Write the complete spec, and the plan as data with the folder that the spec's paths start in."""
        text = resolved(plan)
        if known := plan.source.variables.fingerprints(text, self.salt):
            self.write("variables.json", json.dumps({"salt": self.salt, "values": known}, indent=2) + "\n")
        self.write("spec.yaml", text)
        try:
            origin = os.path.relpath(plan.source.folder.resolve(), self.path.resolve())
        except ValueError:  # another drive
            origin = str(plan.source.folder.resolve())
        self.write("plan.json", json.dumps({"folder": origin, **outline(plan)}, indent=2) + "\n")

    @cached_property
    def salt(self) -> str:
        """The salt of the fingerprints of variables in this folder; a new one if it has none."""
        kept = self.read("variables.json", _VARIABLES)
        return secrets.token_hex(16) if kept is None else kept.salt

    @property
    def variables(self) -> dict[str, str]:
        """The fingerprints of the variables in the spec, by their names."""
        kept = self.read("variables.json", _VARIABLES)
        return {} if kept is None else kept.values

    @property
    def origin(self) -> Path | None:
        """The folder that relative paths in the spec start in; None if it is not recorded. Raises KD003 as `read` does."""
        kept = self.read("plan.json", _ORIGIN)
        return None if kept is None or kept.folder is None else self.path / kept.folder

    def replace(self, folder: Path, fill: Callable[[Path], object]) -> None:
        """Fill a new folder and replace an older one with it, so that it is complete or absent."""
        self.check()
        fresh, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
        with _writing(folder):
            for path in (fresh, old):
                shutil.rmtree(path, ignore_errors=True)
            fresh.mkdir(parents=True)
            try:
                fill(fresh)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            for path in (*fresh.rglob("*"), fresh):
                sync(path)
            # A rename cannot replace a folder that has files. If the process is killed between the two renames, the folder
            # is absent, and the stage that wrote it ends again from its last checkpoint.
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
            sync(folder.parent)
            shutil.rmtree(old, ignore_errors=True)

    def export(self, model: Path, card: Callable[[Path], None]) -> None:
        """Copy a model to the student's folder; `card` writes its card there."""

        def fill(fresh: Path) -> None:
            shutil.copytree(model, fresh, dirs_exist_ok=True)
            card(fresh)

        self.replace(self.student, fill)

    def put_aside(self) -> None:
        """Move the files of an earlier run into a folder `earlier-<n>`; nothing is deleted."""
        names = [path for path in self.path.iterdir() if not path.name.startswith((".lock", "earlier-"))]
        if not names:
            return
        number = 1
        while (aside := self.path / f"earlier-{number}").exists():
            number += 1
        with _writing(aside):
            aside.mkdir()
            for path in names:
                path.rename(aside / path.name)

    def _check_weights(self, stage: str, folder: Path, known: Mapping[str, str] | None) -> None:
        """Compare a stage's weights with its checksums; a model that a later stage has trained on has none."""
        if known is None or (now := _checksums(folder)) == known:
            return
        wrong = sorted(name for name in now.keys() | known.keys() if now.get(name) != known.get(name))
        message = f"the model of stage `{stage}` is damaged: `{folder / wrong[0]}` does not match its checksum"
        help_ = (
            f"restore the file, or remove `{self._record(stage)}` to finish the stage again from its last checkpoint"
        )
        raise FindingError(Finding("KD504", message, help=help_))

    def _record(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _make(self, folder: Path) -> None:
        with _writing(folder):
            folder.mkdir(exist_ok=True)


def _end(record: Mapping[str, Any], stage: str) -> tuple[StageFinished, dict[str, str] | None]:
    """The event of a stage's end and the checksums of its weights. Raises ValueError if the record is of something else."""
    event = from_json(record)
    if not isinstance(event, StageFinished) or event.stage != stage:
        raise Damage(f"it is not the end of stage `{stage}`")
    if not _MODEL.fullmatch(event.folder) or PurePosixPath(event.folder).name == "..":
        raise Damage("`folder` is no folder in `models`")
    return event, _WEIGHTS.of(record.get("weights"))


def _checksums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in sorted(folder.rglob("*.safetensors"))}


def _checksum(path: Path) -> str:
    """The checksum of a file of weights; empty for what is none, and for one of another size than its header says."""
    try:
        if read_back.tensor_header(path).bytes != path.stat().st_size:
            return ""
        return sha256(path)
    except (OSError, Damage):
        return ""


def _links(folder: Path) -> Iterator[Path]:
    """The symbolic links that a run would follow; folders of earlier runs are never written to."""
    if folder.is_symlink():
        yield folder
        return
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files) if Path(place, name).is_symlink())
        folders[:] = [name for name in folders if not name.startswith("earlier-")]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    # safetensors raises its own error for a full disk.
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
