"""The manifest of a checkpoint: its files, their checksums, and a checksum of the manifest itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue

from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form

FORMAT = 1
MOST_BYTES, MOST_VALUES = 64 * 2**20, 2_000_000
"""Of a manifest: it has some 40 values for each parameter."""
MANIFEST = "manifest.json"

# A file name in the checkpoint's own folder only: no slash, no leading dot, no drive.
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.safetensors")
_SEALED = re.compile(rb'(\{.*),"checksum":"([0-9a-f]{64})"\}\n', re.DOTALL)


def file_name(group: str) -> str:
    """The name of the file of a group of tensors."""
    name = f"{group}.safetensors"
    assert _FILE.fullmatch(name), f"{group!r} is not a plain name and would be refused on loading"
    return name


class ManifestDamage(Exception):  # noqa: N818 - a finding, reported as KD504 by the store
    """Raised with the reason that follows "the checkpoint is damaged:"."""


@dataclass(frozen=True)
class FileRecord:
    """The expected checksum and size of a file, and the aliases of its tensors (alias to name)."""

    sha256: str
    size: int
    aliases: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """The files of a checkpoint by name, and the data that is not tensors."""

    step: int
    files: Mapping[str, FileRecord]
    meta: Mapping[str, Any]

    def seal(self) -> bytes:
        """JSON with the checksum of all other keys as its last key, so that damage of `meta` is detected too."""
        files = {
            name: {"sha256": record.sha256, "bytes": record.size, "aliases": dict(record.aliases)}
            for name, record in self.files.items()
        }
        body = json.dumps(
            {"format": FORMAT, "step": self.step, "files": files, "meta": self.meta}, separators=(",", ":")
        ).encode("ascii")[:-1]
        return body + b',"checksum":"' + hashlib.sha256(body).hexdigest().encode("ascii") + b'"}\n'

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest. Raises `ManifestDamage` for any other content than `seal` writes: files are not trusted."""
        try:
            sealed = _SEALED.fullmatch(read_back.content(path, most=MOST_BYTES))
        except FileNotFoundError as error:
            raise ManifestDamage("it has no manifest") from error
        except Damage as damage:
            raise ManifestDamage(f"its manifest cannot be read: {damage}") from damage
        if not sealed or hashlib.sha256(sealed[1]).hexdigest().encode("ascii") != sealed[2]:
            raise ManifestDamage("its manifest does not match its checksum")
        try:
            data = read_back.parse(sealed[1] + b"}", values=MOST_VALUES)
            if isinstance(data, dict) and type(data.get("format")) is int and data["format"] != FORMAT:
                raise ManifestDamage(f"its format is {data['format']}; this version of kdspec reads {FORMAT}")
            found = _FORM.of(data)
        except Damage as damage:
            raise ManifestDamage(f"its manifest is damaged: {damage}") from damage
        for name in found.files:
            if not _FILE.fullmatch(name):
                raise ManifestDamage(f"its manifest names a file {name[:100]!r}, which is not allowed")
        files = {name: FileRecord(each.sha256, each.bytes, each.aliases) for name, each in found.files.items()}
        return cls(found.step, files, data["meta"])


class _Record(BaseModel):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Count
    aliases: dict[str, str]


class _Manifest(BaseModel):
    format: Literal[1]
    step: Count
    files: dict[str, _Record]
    meta: dict[str, JsonValue]


_FORM: Form[_Manifest] = Form(_Manifest)
