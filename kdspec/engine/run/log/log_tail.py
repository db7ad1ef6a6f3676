"""Replaces the last part of a log, so that a crash at any moment leaves the old part or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from kdspec.engine.run.durable_files import atomic_write, cannot_write, flush, sync
from kdspec.source import read_back
from kdspec.source.read_back import Damage

_DIGITS = 20


def replace(log: Path, offset: int, content: bytes) -> None:
    """Replace what is behind the first `offset` bytes. Raises KD508 if it cannot be written.

    A log may be larger than what can be copied in a moment, so it is changed in place. The new part is written to a file of
    its own before, from which `finish` goes on.
    """
    atomic_write(_path(log), f"{offset:0{_DIGITS}d}\n".encode() + content)
    try:
        finish(log)
    except OSError as error:
        raise cannot_write(log, error, needed=len(content)) from error


def finish(log: Path) -> None:
    """Put the new part into the log, if there is one. Raises OSError if it cannot be written."""
    path = _path(log)
    try:
        written = read_back.content(path, most=path.stat().st_size)
    except FileNotFoundError:
        return
    except Damage:
        written = b""
    offset, line, content = written[:_DIGITS], written[_DIGITS : _DIGITS + 1], written[_DIGITS + 1 :]
    if offset.isdigit() and line == b"\n" and log.is_file() and int(offset) <= log.stat().st_size:
        with log.open("rb+") as file:
            file.truncate(int(offset))
            file.seek(0, os.SEEK_END)
            file.write(content)
            file.flush()
            flush(file.fileno())
    path.unlink()
    # Before an event is appended: if this file came back after a loss of power, that event would be removed.
    sync(path.parent)


def _path(log: Path) -> Path:
    return log.with_name(f".{log.name}.tail")
