"""Types of fields that name a file or a folder: relative to the spec, and checked when the spec is validated."""

# ruff: noqa: PTH111, PTH112, PTH113, PTH117, PTH118 - os.path returns a value where pathlib raises:
# NUL bytes, over-long names, unknown users.

from __future__ import annotations

import os
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from kdspec.api.spec import model_folders
from kdspec.diagnostics.diagnostic import closest
from kdspec.source import reach
from kdspec.source.document import Located

_HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)
_FROM_THE_HUB = "comes from the hub"
_MANY = 2000
_SLIPS = 2


def local_folder(value: str, folder: Path) -> Path | None:
    """The folder that `value` names, which need not exist, or None if it is a hub id."""
    path = os.path.expanduser(value)
    if value.startswith((".", "/", "~")) or value.count("/") > 1 or os.path.isdir(folder / path):
        return folder / path
    return None


def _file(value: Any, info: ValidationInfo) -> Any:
    base = _base(info)
    if not isinstance(value, str) or base is None:
        return value
    if isinstance(value, Located):
        value = _moved(value, base)
    path = _below(base, value)
    if (why := reach.refused(path, within(info))) is not None:
        raise not_read(value, why, info)
    if os.path.isdir(path):
        raise PydanticCustomError("file_not_found", "`{path}` is a folder, not a file", {"path": value, "near": ""})
    if not os.path.isfile(path):
        raise PydanticCustomError("file_not_found", "no file `{path}`", {"path": value, "near": _near(value, base)})
    return value


def names_file(value: str) -> bool:
    """Whether the value of a `SpecText` is the path of a file with the text."""
    return value.endswith(".txt") and "\n" not in value


def _file_or_text(value: Any, info: ValidationInfo) -> Any:
    return _file(value, info) if isinstance(value, str) and names_file(value) else value


def _folder_or_hub(
    has: Callable[[Path], bool], without: Callable[[str, Path], tuple[str, str | None]]
) -> BeforeValidator:
    def check(value: Any, info: ValidationInfo) -> Any:
        base = _base(info)
        if not isinstance(value, str) or base is None:
            return value
        if isinstance(value, Located) and local_folder(value, Path(value.folder)) is not None:
            value = _moved(value, base)
        if (why := _refused_folder(value, base, within(info))) is not None:
            raise not_read(value, why, info)
        message, near, help_ = _wrong_folder(value, base, has, without)
        if message is not None:
            context = {"path": str(value), "near": near, "help": help_, "says": message}
            raise PydanticCustomError("file_not_found", "{says}", context)
        return str(value)

    return BeforeValidator(check)


def not_read(value: str, why: str, info: ValidationInfo) -> PydanticCustomError:
    """The error of a path, or a name on the hub, that must not be read: KD310 with the help of `--untrusted`."""
    help_ = None if within(info) is None else reach.UNTRUSTED
    return PydanticCustomError("file_refused", "`{path}` {why}", {"path": str(value), "why": why, "help": help_})


def within(info: ValidationInfo) -> str | None:
    """The folder out of which no path may lead, if there is one."""
    folder = (info.context or {}).get("within")
    return None if folder is None else str(folder)


def _refused_folder(value: str, base: Path, limit: str | None) -> str | None:
    """Why a folder, or a file in it, must not be read; None if it may be."""
    path = local_folder(value, base)
    if path is None:
        return None if limit is None else _FROM_THE_HUB
    if (why := reach.refused(str(path), limit)) is not None or not os.path.isdir(path):
        return why
    found = next((f"has `{name}`, which {why}" for name, why in reach.refused_inside(str(path), limit)), None)
    return found or (None if limit is None else model_folders.leads_out(path, limit))


def _wrong_folder(
    value: str, base: Path, has: Callable[[Path], bool], without: Callable[[str, Path], tuple[str, str | None]]
) -> tuple[str | None, str, str | None]:
    """The message, a near name and the help for a folder that is not there or not usable; no message if it is."""
    path = local_folder(value, base)
    if os.path.isfile(file := _below(base, value)):
        message, help_ = model_folders.not_a_folder(value, Path(file))
        return message, "", help_
    if path is None:
        if (slip := _slip(value, base)) is not None:
            return f"no folder `{value}`, and a name on the hub is not likely to be so close to one", slip, None
        unlike = f"`{value}` is neither a folder nor a name on the hub"
        return (None, "", None) if _HUB_ID.fullmatch(value) else (unlike, _near(value, base), None)
    if not os.path.isdir(path):
        return f"no folder `{value}`", _near(value, base), None
    if not has(path):
        message, help_ = without(value, path)
        return message, "", help_
    return None, "", None


def _has_configuration(folder: Path) -> bool:
    return os.path.isfile(folder / "config.json")


def _has_modules(folder: Path) -> bool:
    return _has_configuration(folder) or os.path.isfile(folder / "modules.json")


SpecFile = Annotated[str, BeforeValidator(_file)]
"""A file that exists. Without a spec, in Python, it is not checked until `build`."""

SpecText = Annotated[str, BeforeValidator(_file_or_text)]
"""A text; or, if it is one line that ends with `.txt`, a file that exists and has it."""

SpecFolderOrHub = Annotated[str, _folder_or_hub(_has_configuration, model_folders.without_configuration)]
"""A model's folder or its name on the hub, `name` or `owner/name`; one that begins with `.`, `/` or `~` is a folder."""

SpecEmbedderFolder = Annotated[str, _folder_or_hub(_has_modules, model_folders.without_configuration)]
"""A folder with `config.json`, or with `modules.json` of sentence-transformers, which has no other one; or a name on the hub."""

SpecTokenizer = Annotated[str, _folder_or_hub(model_folders.has_tokenizer, model_folders.without_tokenizer)]
"""A tokenizer's folder or its name on the hub."""


def _hub(value: str, info: ValidationInfo) -> str:
    if within(info) is not None:
        raise not_read(value, _FROM_THE_HUB, info)
    return value


SpecHub = Annotated[str, AfterValidator(_hub)]
"""A name on the hub, from which nothing is read with `--untrusted`."""


def _base(info: ValidationInfo) -> Path | None:
    folder = (info.context or {}).get("folder")
    return None if folder is None else Path(folder)


def _below(base: Path, value: str) -> str:
    return os.path.join(base, os.path.expanduser(value))


def _moved(value: Located, base: Path) -> str:
    """The path of a file named in a base spec, relative to the folder of the spec that extends it."""
    there = _below(Path(value.folder), value)
    if os.path.isabs(value) or value.startswith("~"):
        return str(value)
    try:
        relative = os.path.relpath(there, base)
    except ValueError:  # another drive
        return there
    return relative if relative.startswith(os.pardir) else os.path.join(os.curdir, relative)


def _slip(value: str, base: Path) -> str | None:
    """A folder with a `config.json` whose name is at most two letters away from this hub name, with equal digits."""
    found = Path()
    for name in value.split("/"):
        try:
            with os.scandir(base / found) as entries:
                folders = [entry.name for entry in islice(entries, _MANY) if entry.is_dir()]
        except (OSError, ValueError):
            return None
        near = name if name in folders else closest(name, folders)
        if near is None:
            return None
        found /= near
    blocks = SequenceMatcher(None, value, str(found), autojunk=False).get_matching_blocks()
    slips = max(len(value), len(str(found))) - sum(block.size for block in blocks)
    digits = [re.findall(r"\d+", text) for text in (value, str(found))]
    surely = slips <= _SLIPS and digits[0] == digits[1] and os.path.isfile(base / found / "config.json")
    return str(found) if surely else None


def _near(value: str, base: Path) -> str:
    """`value` with its last name corrected to one that exists there, or an empty text."""
    head, tail = os.path.split(value.rstrip("/"))
    try:
        with os.scandir(_below(base, head) if head else base) as entries:
            name = closest(tail, [entry.name for entry in islice(entries, _MANY)]) if tail else None
    except (OSError, ValueError):
        return ""
    return "" if name is None or name == tail else os.path.join(head, name)
