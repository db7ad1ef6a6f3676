"""The settings of the teacher cache in a spec: whether it is used, how values are stored, and its maximum size."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict
from kdspec.api.spec.bounds import LARGEST_COUNT
from kdspec.api.spec.file_fields import not_read, within
from kdspec.source import reach

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?)?B")
_POWERS: Mapping[str, int] = MappingProxyType({"": 0, "K": 1, "M": 2, "G": 3, "T": 4})


def _text(value: Any) -> Any:
    return f"{value}B" if isinstance(value, int) and not isinstance(value, bool) else value


def _size(value: str) -> str:
    if not _SIZE.fullmatch(value):
        raise PydanticCustomError("bad_size", "`{size}` is not a size such as `20GB` or `500MiB`", {"size": value})
    return value


Size = Annotated[
    str, BeforeValidator(_text, json_schema_input_type=Annotated[int, Field(ge=0)] | str), AfterValidator(_size)
]
"""A number of bytes: `20GB`, `500MiB`, or a whole number."""


class TeacherCacheSettings(Strict):
    """Caches the outputs of frozen teachers on disk, so that each teacher runs once for all epochs and runs."""

    use: Literal["auto", "on", "off"] = "auto"
    """`auto`: if rows are seen more than once, reading is faster than running the teacher, and the values fit into the
    budget. `on`: always; an error if that is not possible. `off`: never."""
    dtype: Literal["exact", "float16", "int8"] = "exact"
    """Precision of the stored values. `exact`: as the teacher computes them. `float16`: half of the disk space. `int8`:
    hidden states and attention in a quarter of it, with a scale for each token; logits in float16."""
    top_k: Annotated[int, Field(gt=0, le=LARGEST_COUNT)] | None = None
    """Store only this many of the largest logits of each row or token. The total probability of all others is one more
    outcome, stored as a number for each temperature. The loss of the soft labels must be a divergence such as `kl`, and
    its temperature constant."""
    budget: Size = "20GB"
    """Maximum size of one cache on disk: a number of bytes, or one with a unit such as `kB`, `MB`, `GB` or `GiB`."""
    folder: Annotated[str, Field(min_length=1)] | None = None
    """Folder of the caches. Default: the folder that the environment variable `KDSPEC_CACHE` names, or
    `kdspec/teachers` in the user's cache folder."""

    @field_validator("folder")
    @classmethod
    def _is_trusted(cls, folder: str | None, info: ValidationInfo) -> str | None:
        if folder is not None and (limit := within(info)) is not None:
            path = os.path.join(limit, os.path.expanduser(folder))  # noqa: PTH111, PTH118 - raise nothing
            if (why := reach.refused(path, limit)) is not None:
                raise not_read(folder, why, info)
        return folder

    @property
    def bytes(self) -> int:
        """The budget as a number."""
        return number(self.budget)


def number(size: str) -> int:
    """The bytes of a size: `2kB` are 2000, `2KiB` 2048."""
    found = _SIZE.fullmatch(size)
    assert found is not None, "the size has been checked"
    unit = (found[2] or "").upper()
    base = 1024 if unit.endswith("I") else 1000
    return round(float(found[1]) * float(base ** _POWERS[unit[:1]]))
