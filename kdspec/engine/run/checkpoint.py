"""Checkpoints that survive a crash at any moment and are verified before use."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.run.durable_files import cannot_write, sha256, sync
from kdspec.engine.run.manifest import MANIFEST, FileRecord, Manifest, ManifestDamage, file_name

_STEP = re.compile(r"step-(\d{8,18})")
_ASIDE = re.compile(r"\.aside-(step-\d{8,18})-[0-9a-f]{8}")


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimizer steps: tensors on the CPU by group and name, and JSON data."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    meta: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints of one stage, in `root/step-00000100/`: one safetensors file per group, and a manifest.

    A folder is written under a temporary name, synced and then renamed, so that a checkpoint is complete or absent;
    checksums detect later damage. `save` and `latest` are for the process that holds the run's lock; `steps` and `load`
    only read. `keep` is the number of newest checkpoints that are kept.
    """

    def __init__(self, root: Path, keep: int = 2) -> None:
        assert keep >= 1, "resuming needs at least one checkpoint"
        self.root = root
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps of all checkpoints, damaged or not, oldest first."""
        if not self.root.is_dir():
            return []
        matches = [_STEP.fullmatch(path.name) for path in self.root.iterdir()]
        # Skip other spellings of a number, such as more leading zeros: `folder` would not find them again.
        return sorted(int(m[1]) for m in matches if m and m[0] == self.folder(int(m[1])).name)

    def folder(self, step: int) -> Path:
        """The path of the checkpoint of a step."""
        return self.root / f"step-{step:08d}"

    def damaged(self) -> list[Path]:
        """Damaged checkpoints that were moved aside. If only such are left, a run must not start from the beginning."""
        return sorted(self.root.glob("step-*.corrupt-*"))

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        meta: Mapping[str, Any],
        protect: Collection[int] = (),
    ) -> Path:
        """Write a checkpoint, verify it, and only then remove older ones; `protect` has steps to keep.

        A group is the name of a file. Tied tensors are written once and are tied again when loaded. In `meta`, as in JSON,
        tuples become lists and keys become strings. Raises KD508 if it cannot be written, and KD504 if its files do not
        match their checksums when read back; older checkpoints are then kept.
        """
        groups = {file_name(group): _distinct(members) for group, members in tensors.items()}
        needed = sum(t.numel() * t.element_size() for kept, _ in groups.values() for t in kept.values())
        temporary = self.root / f".tmp-{step:08d}-{secrets.token_hex(4)}"
        try:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                sync(self.root.parent)
                temporary.mkdir()
                files = {}
                for name, (kept, aliases) in groups.items():
                    path = temporary / name
                    save_file(kept, path, metadata={"format": "pt"})
                    sync(path)
                    files[name] = FileRecord(sha256(path), path.stat().st_size, aliases)
                # The manifest is last, and the folder is synced before it is renamed: a folder with the final name has
                # all its files on disk, also after a power failure.
                (temporary / MANIFEST).write_bytes(Manifest(step, files, dict(meta)).seal())
                sync(temporary / MANIFEST)
                sync(temporary)
                self._publish(temporary, step)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            self._verify(step)
            self._prune(protect)
        # safetensors raises the two other errors for a full disk.
        except (OSError, SafetensorError, RuntimeError) as error:
            raise cannot_write(self.folder(step), error, needed) from error
        except ManifestDamage as damage:
            raise self._damaged(step, damage) from damage
        return self.folder(step)

    def latest(self, report: Callable[[str], None]) -> Checkpoint | None:
        """The newest intact checkpoint, or None; a damaged one is reported, renamed `*.corrupt-<n>`, and skipped.

        Also removes the unfinished files of a killed process. Raises KD508 if it cannot.
        """
        try:
            self._recover()
            for step in reversed(self.steps()):
                try:
                    return self.load(step)
                except FindingError as damage:
                    aside = self._set_aside(step)
                    report(f"{damage.findings[0].message}; it is kept as `{aside.name}`, and an older one is tried")
        except OSError as error:
            raise cannot_write(self.root, error) from error
        return None

    def load(self, step: int) -> Checkpoint:
        """Read one checkpoint after verifying its checksums. Raises KD504 if it is missing or damaged."""
        try:
            manifest = self._verify(step)
            tensors = {
                name.removesuffix(".safetensors"): _restored(self.folder(step) / name, record)
                for name, record in manifest.files.items()
            }
        except ManifestDamage as damage:
            raise self._damaged(step, damage) from damage
        return Checkpoint(step, tensors, manifest.meta)

    def _damaged(self, step: int, damage: ManifestDamage) -> FindingError:
        return FindingError(Finding("KD504", f"checkpoint `{self.folder(step)}` is damaged: {damage}"))

    def _verify(self, step: int) -> Manifest:
        folder = self.folder(step)
        manifest = Manifest.read(folder / MANIFEST)
        if manifest.step != step:
            raise ManifestDamage(f"its manifest is of step {manifest.step}")
        for name, record in manifest.files.items():
            path = folder / name
            try:
                if not path.is_file():
                    raise ManifestDamage(f"`{name}` is missing")
                if (size := path.stat().st_size) != record.size:
                    raise ManifestDamage(f"`{name}` has {size} bytes instead of {record.size}")
                if sha256(path) != record.sha256:
                    raise ManifestDamage(f"the contents of `{name}` do not match its checksum")
            except OSError as error:
                raise ManifestDamage(f"`{name}` cannot be read: {error.strerror}") from error
        return manifest

    def _publish(self, temporary: Path, step: int) -> None:
        final = self.folder(step)
        aside = self.root / f".aside-{final.name}-{secrets.token_hex(4)}"
        # A rename cannot replace a folder that has files. If the process is killed between the two renames, _recover
        # undoes the first one.
        if final.exists():
            final.rename(aside)
        try:
            temporary.rename(final)
        except BaseException:
            if aside.exists():
                aside.rename(final)
            raise
        sync(self.root)
        shutil.rmtree(aside, ignore_errors=True)

    def _prune(self, protect: Collection[int]) -> None:
        for step in self.steps()[: -self.keep]:
            if step not in protect:
                # Rename before deleting: a half-deleted folder under the final name would look like a damaged checkpoint.
                gone = self.folder(step).rename(self.root / f".tmp-{step:08d}-{secrets.token_hex(4)}")
                shutil.rmtree(gone)

    def _recover(self) -> None:
        if not self.root.is_dir():
            return
        for path in sorted(self.root.iterdir()):
            aside = _ASIDE.fullmatch(path.name)
            if aside and not (self.root / aside[1]).exists():
                path.rename(self.root / aside[1])
            elif aside or path.name.startswith(".tmp-"):
                shutil.rmtree(path)

    def _set_aside(self, step: int) -> Path:
        folder = self.folder(step)
        number = 1
        while (aside := folder.with_name(f"{folder.name}.corrupt-{number}")).exists():
            number += 1
        return folder.rename(aside)


def _distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous CPU tensors without shared memory, and the aliases: for each tied tensor the name it is stored under."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    names: dict[object, str] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and identity in names:
            aliases[name] = names[identity]
            continue
        names[identity] = name
        whole = storage.nbytes() == tensor.numel() * tensor.element_size() and storage.data_ptr() not in storages
        storages.add(storage.data_ptr())
        plain = tensor.detach().cpu().contiguous()
        kept[name] = plain if whole or plain.data_ptr() != tensor.data_ptr() else plain.clone()
    return kept, aliases


def _restored(path: Path, record: FileRecord) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ManifestDamage(f"`{path.name}` is not a safetensors file: {error}") from error
    for alias, name in record.aliases.items():
        if alias in tensors or name not in tensors:
            raise ManifestDamage(f"`{path.name}` does not have the tensors in its manifest")
        tensors[alias] = tensors[name]
    return tensors
