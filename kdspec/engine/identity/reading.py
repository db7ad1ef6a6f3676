"""One thing that a run reads, with a digest of its content, and how two of them differ in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from kdspec.diagnostics.finding import SpecPath
from kdspec.source.read_back import Count

Kind = Literal["rows", "weights", "configuration", "tokenizer", "code", "commit", "file", "plugin"]

_SHOWN = 12
_OTHER: Mapping[Kind, str] = MappingProxyType(
    {
        "rows": "other rows",
        "weights": "other weights",
        "configuration": "another configuration",
        "tokenizer": "another tokenizer",
        "code": "other code",
        "commit": "another commit",
        "file": "another file",
        "plugin": "another plugin",
    }
)


class ReadContent(BaseModel):
    """What is read at a place of the spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Kind
    at: tuple[str | int, ...] = ()
    """The place in the spec that names it, or that of the first component of a plugin."""
    name: str = ""
    """The split of rows, or the name of a plugin; else empty."""
    digest: str = Field(min_length=1, max_length=200)
    """A checksum of the content; the commit of what is from the hub; the version of an installed plugin."""
    rows: Count | None = None
    """The number of rows of the split, once they have been read."""

    @property
    def key(self) -> tuple[str, SpecPath, str]:
        """What it is, whatever its content. Where a plugin is used first may change, as other stages do."""
        return (self.kind, () if self.kind == "plugin" else self.at, self.name)

    @property
    def place(self) -> str:
        """The place in the spec, in words."""
        return ".".join(map(str, self.at))

    @property
    def short(self) -> str:
        """The beginning of the digest; a version is shown whole."""
        return self.digest if self.kind == "plugin" and "." in self.digest else self.digest[:_SHOWN]

    @property
    def words(self) -> str:
        """What it is, in words: `rows of `train``."""
        named = {"rows": f"rows of `{self.name}`", "plugin": f"plugin `{self.name}`"}
        return named.get(self.kind, self.kind)


Pair = tuple[ReadContent | None, ReadContent | None]
"""What was read and what is read now; None where it is not read."""


def other(pairs: Iterable[Pair]) -> list[str]:
    """What is another one than before, in words, without repetition."""
    return list(dict.fromkeys(_OTHER[one.kind] for pair in pairs for one in pair if one is not None))


def differing(former: Iterable[ReadContent], now: Iterable[ReadContent]) -> Iterator[Pair]:
    """The pairs whose content differs, in the order of the former ones.

    What is not known on one side is not compared: a commit before the first download, and rows that could not be read.
    """
    before, after = ({reading.key: reading for reading in readings} for readings in (former, now))
    tasks = [{reading.at[:2] for reading in side.values() if reading.kind == "rows"} for side in (before, after)]
    for key in dict.fromkeys((*before, *after)):
        one, two = before.get(key), after.get(key)
        known = two if one is None else one
        assert known is not None, "one of the two is there"
        if one is None or two is None:
            if known.kind != "commit" and (known.kind != "rows" or all(known.at[:2] in side for side in tasks)):
                yield one, two
        elif one.digest != two.digest:
            yield one, two


def merged(former: Iterable[ReadContent], now: Iterable[ReadContent]) -> tuple[ReadContent, ...]:
    """The readings of now, with what was known before and is not now: numbers of rows, and what could not be read."""
    found = {reading.key: reading for reading in former}
    for reading in now:
        before = found.get(reading.key)
        same = reading.rows is None and before is not None and before.digest == reading.digest
        found[reading.key] = before if same and before is not None else reading
    return tuple(found.values())


def difference(former: ReadContent | None, now: ReadContent | None) -> str:
    """A line on what was read before and what is read now."""
    if former is None or now is None:
        known = now if former is None else former
        assert known is not None, "one of the two is there"
        place = known.words if known.kind == "plugin" else f"`{known.place}`: {known.words}"
        return f"{place} {'is new' if former is None else 'is gone'}"
    match now.kind:
        case "plugin":
            what = "version " if "." in now.digest + former.digest else ""
            return f"{now.words} was {what}`{former.short}` and is `{now.short}`"
        case "rows":
            one, two = (("" if each.rows is None else f"{each.rows} ") for each in (former, now))
            return f"`{now.place}` had {one}{now.words} (`{former.short}`) and has {two or 'others '}(`{now.short}`)"
        case _:
            return f"`{now.place}` had the {now.words} `{former.short}` and has `{now.short}`"
