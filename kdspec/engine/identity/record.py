"""The file `identity.json` of a run folder: what each stage began with."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kdspec.engine.identity.file_digests import Stamp
from kdspec.engine.identity.reading import ReadContent
from kdspec.source import read_back
from kdspec.source.read_back import Damage

FILE = "identity.json"


class NotRecorded(Exception):  # noqa: N818 - a finding, reported as KD509
    """Raised with the reason why it is not known what a run began with."""


class StageIdentity(BaseModel):
    """What a stage is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    spec: str
    """The fingerprint of its settings."""
    reads: tuple[ReadContent, ...] = ()
    """What it reads, and what the stages before it read."""


class IdentityRecord(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    stages: dict[str, StageIdentity] = {}
    stamps: dict[str, tuple[Stamp, str]] = {}
    """Checksums of large files, which `FileDigests` need not read again."""

    def dumps(self) -> str:
        """The text of the file."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":")) + "\n"

    @classmethod
    def loads(cls, text: str | None) -> IdentityRecord:
        """The record of a file's text.

        Raises:
            NotRecorded: there is none, or it is not what `dumps` writes.
        """
        if text is None:
            raise NotRecorded(f"the run has no `{FILE}`, as runs of older versions of kdspec")
        try:
            read_back.parse(text)
            return cls.model_validate_json(text)
        except Damage as damage:
            raise NotRecorded(f"`{FILE}` is damaged: {damage}") from damage
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["loc"] == ("format",):
                raise NotRecorded(f"`{FILE}` has another format than 1, which this version of kdspec reads") from error
            place = ".".join(map(str, first["loc"]))
            raise NotRecorded(f"`{FILE}` is damaged{f' at `{place}`' if place else ''}") from error
