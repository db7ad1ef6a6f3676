"""Names in a spec that are also names of files and folders: of any script, and the same on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

T = TypeVar("T")

_LONGEST = 100
_MOST_BYTES = 200  # a file name has at most 255, and kdspec adds endings
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

RULE = (
    f"a name has up to {_LONGEST} letters or digits of any script (up to {_MOST_BYTES} bytes of UTF-8), `.`, `_` or `-`, and "
    "does not begin with `.` or `-`"
)
"""What a name consists of, for messages."""
RESERVED = "some systems reserve this name for a device, or read it as a parent folder"
COMPOSED = "write it with composed characters (Unicode's form NFC), which look the same"


def rule_against(name: str) -> str | None:
    """The rule that a name does not keep; None for a name that can be used."""
    kinds = [unicodedata.category(character) for character in name]
    letters = all(kind[0] in "LMN" or character in "._-" for kind, character in zip(kinds, name, strict=True))
    first = bool(name) and (kinds[0][0] in "LN" or name[0] == "_")
    if not (letters and first) or len(name) > _LONGEST or len(name.encode(errors="replace")) > _MOST_BYTES:
        return RULE
    if ".." in name or _RESERVED.fullmatch(name):
        return RESERVED
    return None if unicodedata.is_normalized("NFC", name) else COMPOSED


def _safe(value: str) -> str:
    if (rule := rule_against(value)) is not None:
        composed = unicodedata.normalize("NFC", value) if rule is COMPOSED else ""
        context = {"name": value, "rule": rule, "composed": composed}
        raise PydanticCustomError("bad_name", "`{name}` cannot be a name", context)
    return value


def _differ(named: Mapping[str, T]) -> Mapping[str, T]:
    """Names that are one where a file system ignores case would share a file."""
    seen: dict[str, str] = {}
    for name in named:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise PydanticCustomError(
                "same_name", "`{other}` and `{name}` are one name where case is ignored", {"name": name, "other": other}
            )
    return named


Name = Annotated[str, AfterValidator(_safe)]
"""A name that is also the name of a file or folder."""

Distinct = AfterValidator(_differ)
"""For a mapping with names as keys: they differ by more than case."""
