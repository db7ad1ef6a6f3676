"""The manifest of a checkpoint: its files, their checksums, and a checksum of the manifest itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"

# A file name in the checkpoint's own folder only: no slash, no leading dot, no drive.
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
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
            if not path.is_file():
                raise ManifestDamage("it has no manifest")
            sealed = _SEALED.fullmatch(path.read_bytes())
        except OSError as error:
            raise ManifestDamage(f"its manifest cannot be read: {error.strerror}") from error
        if not sealed or hashlib.sha256(sealed[1]).hexdigest().encode("ascii") != sealed[2]:
            raise ManifestDamage("its manifest does not match its checksum")
        try:
            data = json.loads(sealed[1] + b"}")
        except (ValueError, RecursionError) as error:
            raise ManifestDamage(f"its manifest is not JSON: {error}") from error
        match data:
            case {"format": int(format_)} if format_ != FORMAT:
                raise ManifestDamage(f"its format is {format_}; this version of kdspec reads {FORMAT}")
            case {"format": int(), "step": int(step), "files": dict(files), "meta": dict(meta)}:
                return cls(step, {name: _record(name, entry) for name, entry in files.items()}, meta)
        raise ManifestDamage("its manifest lacks a required key")


def _record(name: str, entry: object) -> FileRecord:
    if not _FILE.fullmatch(name):
        raise ManifestDamage(f"its manifest names a file {name[:100]!r}, which is not allowed")
    match entry:
        case {"sha256": str(sha256), "bytes": int(size), "aliases": dict(aliases)}:
            if _SHA256.fullmatch(sha256) and all(isinstance(target, str) for target in aliases.values()):
                return FileRecord(sha256, size, aliases)
    raise ManifestDamage(f"its manifest has no valid record of `{name}`")
