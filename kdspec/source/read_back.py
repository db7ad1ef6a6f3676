"""The one reader of files that others may have changed: what a run, a cache or a plan has kept, and the JSON of models.

Such a file is read like a spec: with limits, and checked before it is used. Wherever kdspec reads JSON from a disk:

    FORM = Form(tuple[ResultRow, ...])                       # once, at the top of the module
    rows = read_back.read(folder / "table.json", FORM)       # FileNotFoundError, or Damage with the place

`Damage` is a ValueError. Its text follows the name of the file: a reader that can do without one entry names it and passes
it over, and any other one raises `refused(path, damage)`. Values are bounded by `Count`, `Seconds` and `PathText`.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.finding import Finding, FindingError

T = TypeVar("T")

MOST_BYTES = 16 * 2**20
"""Bytes of a file, unless its reader allows more."""
MOST_VALUES = 1_000_000
"""Commas and brackets of a text: a bound of the values, each of which takes up to 240 bytes."""
MOST_LEVELS = 64
"""Levels of nesting."""
MOST_HEADER = 10_000_000
"""Bytes of the header of a safetensors file: about 100,000 tensors."""
_DIGITS = 64

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of things, which a 64-bit integer has."""
Seconds = Annotated[float, Field(ge=0, lt=1e11)]
"""A duration; 1e11 seconds are 3,000 years."""
PathText = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=4096)]
"""A path that the system can take."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# The closing quote is optional, so that a string without an end matches at once.
_NO_BRACKETS = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[^\[\]{}"]+', re.DOTALL)


class Damage(ValueError):  # noqa: N818 - the state of a file, reported as a finding by its reader
    """Raised for content that cannot be used; the text is the reason, in lower case, with the place in the file."""


class Form(Generic[T]):
    """The form that JSON data must have: a type whose fields pydantic checks.

    Args:
        kind: a type that pydantic knows, such as a dataclass with bounds as annotations.
        strict: whether a string is no number, and the like.
    """

    def __init__(self, kind: type[T] | Any, *, strict: bool = True) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        self._strict = strict

    def of(self, data: Any) -> T:
        """The value of JSON data. Raises `Damage` with the first place that does not fit."""
        try:
            return self._adapter.validate_json(json.dumps(data), strict=self._strict)
        except ValidationError as error:
            raise Damage(_misfit(error)) from None


def read(path: Path, form: Form[T], *, most: int = MOST_BYTES) -> T:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: there is none.
        Damage: it cannot be read, or is not of this form.
    """
    return form.of(parse(content(path, most=most)))


def content(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        FileNotFoundError: there is none.
        Damage: it is something else, has more than `most` bytes, or cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Damage(f"it has {size:,} bytes, more than {most:,}")
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise Damage(f"it cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(data) > most:
        raise Damage(f"it has more than {most:,} bytes")
    return data


def text(path: Path, *, most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file. Raises as `content` does."""
    return _decoded(content(path, most=most))


def parse(written: bytes | str, *, values: int | None = MOST_VALUES) -> Any:
    """The data of a JSON text; parts of surrogate pairs become U+FFFD. NaN and infinity are read, as Python writes them.

    Raises:
        Damage: it is not JSON, has a key twice, more than `values` values, 64 levels or an integer of 64 digits.
    """
    found = written if isinstance(written, str) else _decoded(written)
    opened = found.count("[") + found.count("{")
    if values is not None and len(found) > values and opened + found.count(",") > values:
        raise Damage(f"it has more than {values:,} values")
    if opened > MOST_LEVELS and _levels(found) > MOST_LEVELS:
        raise Damage(f"it is nested more than {MOST_LEVELS} levels deep")
    if found.startswith("\ufeff"):
        raise Damage("it begins with a byte order mark")
    try:
        data = _DECODER.decode(found)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise Damage(f"it is not JSON: line {error.lineno}, column {error.colno}: {reason}") from None
    return _whole(data) if _SURROGATE.search(found) else data


def mapping(path: Path, *, most: int = MOST_BYTES, values: int | None = MOST_VALUES) -> dict[str, Any]:
    """The object in a JSON file of a program whose form kdspec does not know. Raises as `read` does."""
    data = parse(content(path, most=most), values=values)
    if not isinstance(data, dict):
        raise Damage("it is no JSON object")
    return data


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in the header of a safetensors file; the offsets are bytes behind the header."""

    dtype: str
    shape: list[Count]
    data_offsets: tuple[Count, Count]


@dataclass(frozen=True)
class TensorHeader:
    """The header of a safetensors file."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    bytes: int
    """Bytes that the file must have."""


def tensor_header(path: Path) -> TensorHeader:
    """The header of a safetensors file, without its tensors.

    Raises:
        FileNotFoundError: there is none.
        Damage: it has no header, or one whose entries are not of this form.
    """
    with opened(path) as file:
        try:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size - 8:
                raise Damage("it has no header of safetensors")
            if length > MOST_HEADER:
                raise Damage(f"its header has {length:,} bytes, more than {MOST_HEADER:,}")
            written = file.read(length)
        except OSError as error:
            raise Damage(f"it cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        header = parse(written)
        if not isinstance(header, dict):
            raise Damage("it is no JSON object")
    except Damage as damage:
        raise Damage(f"its header {str(damage).removeprefix('it ')}") from None
    metadata = _METADATA.of(header.pop("__metadata__", {}))
    tensors = _TENSORS.of(header)
    ends = [tensor.data_offsets[1] for tensor in tensors.values()]
    return TensorHeader(tensors, metadata, 8 + length + max(ends, default=0))


def refused(path: Path | str, damage: ValueError, help: str | None = None) -> FindingError:  # noqa: A002 - the word of findings
    """KD003 for a damaged file."""
    return FindingError(Finding("KD003", f"cannot read `{excerpt(str(path), 300)}`: {damage}", help=help))


def opened(path: Path) -> BinaryIO:
    """A regular file; a link to one too."""
    try:
        # Not to wait for a writer, if it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except OSError as error:
        raise Damage(f"it cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError:  # a name with NUL
        raise Damage("it is no name of a file") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise Damage("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")
    return os.fdopen(descriptor, "rb")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Damage(f"it is not UTF-8 text: line {line}") from None


def _levels(found: str) -> int:
    brackets = _NO_BRACKETS.sub("", found)
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        counted = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counted.items() if count > 1)
        raise Damage(f"it has the key `{excerpt(twice)}` twice")
    return made


def _integer(digits: str) -> int:
    # int() takes quadratic time, and raises an error of its own above 4,300 digits.
    if len(digits) > _DIGITS:
        raise Damage(f"it has an integer of {len(digits):,} digits")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)


def _whole(value: Any) -> Any:
    """The value without halves of surrogate pairs, which cannot be written as UTF-8."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _misfit(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    given = first["input"]
    if first["type"] == "missing":
        return f"`{excerpt(place)}` is missing"
    shown = "" if isinstance(given, dict | list) else f" (`{excerpt(str(given), 30)}`)"
    words = first["msg"].removeprefix("Value error, ")
    words = words[:1].lower() + words[1:]
    return f"`{excerpt(place)}`{shown}: {words}" if place else words


_METADATA: Form[dict[str, str]] = Form(dict[str, str])
_TENSORS: Form[dict[str, StoredTensor]] = Form(dict[str, StoredTensor])
