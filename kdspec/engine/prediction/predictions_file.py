"""Writes predictions to a file that is complete or absent; what a stopped start has computed is kept beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.prediction.prediction import Prediction
from kdspec.engine.run.durable_files import cannot_write, flush, sync
from kdspec.engine.run.lock import RunLock

_PART = ".part"


def kept_beside(file: Path) -> Path:
    """The folder with what has been computed for a file that is not written yet."""
    return file.with_name(f"{file.name}{_PART}")


def check(file: Path) -> None:
    """Raise KD508 for a file that exists, and for one below a file."""
    if file.exists() or file.is_symlink():
        message = f"`{file}` exists already, and predictions replace no file"
        raise FindingError(Finding("KD508", message, help="remove it, or write to another file"))
    above = next(place for place in file.absolute().parents if place.exists())
    if not above.is_dir():
        message = f"`{file}` cannot be written: `{above.name}` is a file"
        raise FindingError(Finding("KD508", message, help="write to another folder"))


@contextmanager
def beside(file: Path) -> Iterator[Path]:
    """A folder for what is computed until the file is written; it stays there if the file is not.

    What is in it is found by the content of rows and model, so that an older folder of other ones does no harm.

    Raises:
        FindingError: KD505 if another process is writing the file, KD508 if the folder cannot be made.
    """
    folder = kept_beside(file)
    with RunLock(folder):
        yield folder
    if file.exists():
        shutil.rmtree(folder, ignore_errors=True)


def write(prediction: Prediction, file: Path) -> int:
    """Write the lines of a prediction whose outputs are in the folder of `beside`; returns their number.

    Raises:
        FindingError: KD508 if the file cannot be written; as `Prediction.lines` does.
    """
    temporary = kept_beside(file) / "predictions.jsonl"
    number = 0
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(prediction.lines(), 1):  # noqa: B007 - counted
                stream.write(f"{line}\n")
            stream.flush()
            flush(stream.fileno())
        temporary.replace(file)
        sync(file.parent)
    except OSError as error:
        raise cannot_write(file, error) from error
    return number
