"""Types of fields that name a file or a folder: relative to the spec, and checked when the spec is validated."""

# ruff: noqa: PTH111, PTH112, PTH113, PTH117, PTH118 - os.path returns a value where pathlib raises:
# NUL bytes, over-long names, unknown users.

from __future__ import annotations

import os
import re
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from kdspec.diagnostics.diagnostic import closest
from kdspec.source.document import Located

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""A folder with none of these has no tokenizer; transformers would load one with an empty vocabulary."""

_HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)
_MANY = 2000
_SLIPS = 2


def local_folder(value: str, folder: Path) -> Path | None:
    """The folder that `value` names, which need not exist, or None if it is a hub id."""
    path = os.path.expanduser(value)
    if value.startswith((".", "/", "~")) or value.count("/") > 1 or os.path.isdir(folder / path):
        return folder / path
    return None


def has_any(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether one of these files is in the folder."""
    return any(os.path.isfile(folder / name) for name in names)


def _file(value: Any, info: ValidationInfo) -> Any:
    base = _base(info)
    if not isinstance(value, str) or base is None:
        return value
    if isinstance(value, Located):
        value = _moved(value, base)
    path = _below(base, value)
    if os.path.isdir(path):
        raise PydanticCustomError("file_not_found", "`{path}` is a folder, not a file", {"path": value, "near": ""})
    if not os.path.isfile(path):
        raise PydanticCustomError("file_not_found", "no file `{path}`", {"path": value, "near": _near(value, base)})
    return value


def _folder_or_hub(*needed: str) -> BeforeValidator:
    def check(value: Any, info: ValidationInfo) -> Any:
        base = _base(info)
        if not isinstance(value, str) or base is None:
            return value
        if isinstance(value, Located) and local_folder(value, Path(value.folder)) is not None:
            value = _moved(value, base)
        path = local_folder(value, base)
        message, near = None, None
        if path is None:
            if (near := _slip(value, base)) is not None:
                message = "no folder `{path}`, and a name on the hub is not likely to be so close to one"
            elif not _HUB_ID.fullmatch(value):
                message = "`{path}` is neither a folder nor a name on the hub"
        elif not os.path.isdir(path):
            message = "no folder `{path}`"
        elif not has_any(path, needed):
            message = "the folder `{path}` has no `{needed}`"
        if message is not None:
            context = {"path": str(value), "near": near or _near(value, base), "needed": needed[0]}
            raise PydanticCustomError("file_not_found", message, context)
        return str(value)

    return BeforeValidator(check)


SpecFile = Annotated[str, BeforeValidator(_file)]
"""A file that exists. Without a spec, in Python, it is not checked until `build`."""

SpecFolderOrHub = Annotated[str, _folder_or_hub("config.json")]
"""A model's folder or its name on the hub, `name` or `owner/name`; one that begins with `.`, `/` or `~` is a folder."""

SpecTokenizer = Annotated[str, _folder_or_hub(*TOKENIZER_FILES)]
"""A tokenizer's folder or its name on the hub."""


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
