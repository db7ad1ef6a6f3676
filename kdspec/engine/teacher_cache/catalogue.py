"""Lists and removes the caches in a folder: of teacher outputs, encoded rows, mined negatives and vectors of tokens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kdspec.data import row_cache
from kdspec.data.ranking import mining
from kdspec.engine.run.durable_files import cannot_write
from kdspec.engine.teacher_cache.segment_index import records
from kdspec.networks import kept_vectors
from kdspec.source import read_back
from kdspec.source.read_back import Damage, Form

ABOUT, INDEX = "cache.json", "index"
_MOST_OF_AN_INDEX = 2**30
"""Bytes of an index: of about 25 million samples."""
_KEY = 32
_KEY_OF_FILE = 64
_FILES = (
    ("mined negatives", mining.FOLDER, mining.SUFFIX),
    ("vectors of tokens", kept_vectors.FOLDER, kept_vectors.SUFFIX),
)
"""Of files of which only the size is shown: what they have, their folder, and how their names end."""


@dataclass(frozen=True)
class _About:
    """What is shown of `cache.json`; a cache of an earlier version has less."""

    teacher: str = ""
    run: str = ""
    features: tuple[str, ...] = ()


_ABOUT: Form[_About] = Form(_About)


@dataclass(frozen=True)
class CachedTeacher:
    """A cache on the disk."""

    key: str
    teacher: str
    run: str
    """The run that created it."""
    features: tuple[str, ...]
    samples: int
    """Number of samples, of all data sets together."""
    on_disk: int
    used: str
    """When it was last opened, in UTC."""
    damage: str = ""
    """Why nothing is known of it."""


@dataclass(frozen=True)
class CachedRows:
    """Encoded rows on the disk."""

    key: str
    tokenizer: str
    """The folder or name from which it was loaded."""
    text: str
    """The beginning of the first text."""
    rows: int
    on_disk: int
    used: str
    """When they were last read, in UTC."""
    damage: str = ""
    """Why nothing is known of them."""


@dataclass(frozen=True)
class CachedFile:
    """A cache that is one file."""

    key: str
    what: str
    """What it has: `mined negatives` or `vectors of tokens`."""
    path: Path
    on_disk: int
    used: str
    """When it was last read, in UTC."""


Cached = CachedTeacher | CachedRows | CachedFile


def cached_teachers(root: Path) -> list[CachedTeacher]:
    """The teacher caches in a folder, last used first; other folders are skipped."""
    return sorted(_found(root), key=lambda cache: cache.used, reverse=True)


def cached_rows(root: Path) -> list[CachedRows]:
    """The caches of encoded rows in a folder, last used first."""
    return sorted(_found_rows(root / row_cache.FOLDER), key=lambda rows: rows.used, reverse=True)


def cached_files(root: Path) -> list[CachedFile]:
    """The caches of mined negatives and of vectors of tokens in a folder, last used first."""
    return sorted(_found_files(root), key=lambda file: file.used, reverse=True)


def remove(root: Path, key: str) -> list[Cached]:
    """Remove the caches with this prefix of their key, and return them. Raises KD508 if that fails."""
    kept: list[Cached] = [*cached_teachers(root), *cached_rows(root), *cached_files(root)]
    chosen = [each for each in kept if each.key.startswith(key)]
    for each in chosen:
        path = _place(root, each)
        try:
            if isinstance(each, CachedTeacher):
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
    return chosen


def _place(root: Path, each: Cached) -> Path:
    match each:
        case CachedFile():
            return each.path
        case CachedRows():
            return root / row_cache.FOLDER / f"{each.key}{row_cache.SUFFIX}"
        case CachedTeacher():
            return root / each.key


def _found(root: Path) -> Iterator[CachedTeacher]:
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.is_symlink() or not _is_key(folder.name, _KEY):
            continue
        try:
            used = _time(folder / ABOUT)
            on_disk = sum(file.lstat().st_blocks * 512 for file in folder.iterdir())
        except OSError:
            continue
        try:
            about, samples = read_back.read(folder / ABOUT, _ABOUT), _samples(folder / INDEX)
        except (OSError, Damage) as damage:
            # It is listed, so that it can be removed.
            yield CachedTeacher(folder.name, "", "", (), 0, on_disk, used, damage=f"{damage}")
            continue
        yield CachedTeacher(folder.name, about.teacher, about.run, about.features, samples, on_disk, used)


def _samples(index: Path) -> int:
    """Number of samples; 0 for a cache of an earlier version."""
    try:
        found, _ = records(read_back.content(index, most=_MOST_OF_AN_INDEX))
    except FileNotFoundError:
        return 0
    keys = [record.entries["key"][record.stored()] for record in found]
    return len(np.unique(np.concatenate(keys))) if keys else 0


def _found_rows(folder: Path) -> Iterator[CachedRows]:
    for file, size, used in _keyed(folder, row_cache.SUFFIX):
        try:
            about = row_cache.about(file)
        except (OSError, Damage) as damage:
            yield CachedRows(file.stem, "", "", 0, size, used, damage=f"{damage}")
            continue
        yield CachedRows(file.stem, about.tokenizer, about.text, about.rows, size, used)


def _found_files(root: Path) -> Iterator[CachedFile]:
    for what, folder, suffix in _FILES:
        for file, size, used in _keyed(root / folder, suffix):
            yield CachedFile(file.stem, what, file, size, used)


def _keyed(folder: Path, suffix: str) -> Iterator[tuple[Path, int, str]]:
    """The files that are named by a checksum, with their size and when they were last used."""
    for file in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
        if file.is_symlink() or file.suffix != suffix or not _is_key(file.stem, _KEY_OF_FILE):
            continue
        try:
            yield file, file.stat().st_size, _time(file)
        except OSError:
            continue


def _is_key(name: str, length: int) -> bool:
    return len(name) == length and set(name) <= set("0123456789abcdef")


def _time(file: Path) -> str:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError):  # a file system has times that the calendar has not
        return ""
