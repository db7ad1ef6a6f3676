"""The tags of words: their names, their scheme, and a number for each word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdspec.api.kinds.context import TaskContext
from kdspec.data import label_names, tag_schemes
from kdspec.data.classes import count, naming
from kdspec.data.label_columns import declared_names
from kdspec.data.label_names import SUSPECT, ordered, whole
from kdspec.data.labels import suspects
from kdspec.data.tag_schemes import OUTSIDE, Scheme
from kdspec.data.tagged_sentences import FindWord, read_tags, with_place
from kdspec.diagnostics.diagnostic import excerpt, listed
from kdspec.diagnostics.fault import Fault

NO_TAG = -100
"""The number of a word without a tag: it counts in no loss and no metric."""

_ENTITY = re.compile(r"[bimeslu][-_:/.]\w.*|\w.*[-_][biesmlu]", re.IGNORECASE)
_AT = ("tags",)

Tags = list[str | None]
"""A tag for each word of a sentence; None for a word without one."""


@dataclass(frozen=True)
class WordTags:
    """The tags of a task, and of each split those of the words by number; None for a sentence without tags."""

    names: tuple[str, ...]
    scheme: Scheme
    rows: Mapping[str, list[list[int] | None]]


@dataclass(frozen=True, kw_only=True)
class TagColumn:
    """A column of lists of tags, as the task describes it."""

    column: str
    scheme: Scheme | None = None
    convert_to: Scheme | None = None
    labels: Sequence[str] | None = None
    missing: Collection[str] = ()
    of_entities: tuple[str, str] | None = None
    """A setting that needs tags that mark entities, and its value."""
    find: FindWord | None = None
    """Finds the place of a word in its file, for messages."""

    def read(
        self, splits: Mapping[str, Any], words: Mapping[str, Sequence[Sequence[str]]], context: TaskContext
    ) -> WordTags:
        """The tags of the rows.

        Raises:
            Fault: KD312 for an unknown tag, for one that breaks the scheme, and for one that marks no entity where most do;
                those of `read_tags` and `naming`.
        """
        known = declared_names(splits, self.column)
        tags = {
            split: read_tags(rows, split, self.column, "tags", words[split], known, self.missing, self.find)
            for split, rows in splits.items()
        }
        # The names of the task and of a head are those that are learnt, not those in the rows.
        learnt = self.convert_to is not None
        counts = count({split: (tag for row in of for tag in row or ()) for split, of in tags.items()})
        found = naming(
            counts, replace(context, heads=()) if learnt else context, column=self.column, at=_AT,
            labels=None if learnt else self.labels, declared=known, asks=False,
        )  # fmt: skip
        named = {
            split: [_unless_empty([found.name(split, tag) for tag in row or ()]) for row in of]
            for split, of in tags.items()
        }
        train = [[tag for tag in row if tag is not None] for row in named["train"] if row is not None]
        if not train and (context.reads_labels or (found.names or self.labels) is None):
            help_ = "`labels` names the tags that no row has: `labels: [O, B-PER, I-PER]`"
            raise Fault("KD312", f"the column `{self.column}` of `train` has no tags", _AT, help=help_)
        scheme = self._scheme(train or [[name] for name in found.names or self.labels or ()], named["train"], context)
        checked = {
            split: [row and self._checked(split, place, row, scheme) for place, row in enumerate(of, 1)]
            for split, of in named.items()
        }
        of_rows = self.labels or (found.names if not learnt else None)
        names = tuple(of_rows) if of_rows is not None else _names(checked["train"], self.convert_to or scheme)
        self._tell(count({split: (tag for row in of for tag in row or ()) for split, of in checked.items()}), context)
        return WordTags(names, scheme, {split: self._numbered(split, of, names) for split, of in checked.items()})

    def _scheme(self, train: Sequence[Sequence[str]], rows: Sequence[Tags | None], context: TaskContext) -> Scheme:
        """The scheme of the task, or the one that the tags of `train` have."""
        if self.scheme is not None:
            return self.scheme
        counts = Counter(tag for row in train for tag in row)
        if odd := tag_schemes.odd(counts):
            raise self._odd(odd, counts, rows)
        scheme = tag_schemes.find_scheme(train)
        if scheme != "plain":
            return scheme
        if self.of_entities is not None:
            other = next(tag for tag in counts if tag != OUTSIDE or len(counts) == 1)
            raise needs_entities(*self.of_entities, f"`{excerpt(other)}` marks none")
        if all(whole(tag) is not None for tag in counts):
            message = f"the tags in `{self.column}` are numbers without names: they count as plain tags"
            help_ = "`labels` gives names to the numbers 0 to n - 1, in their order: `labels: [O, B-PER, I-PER]`"
            context.tell(Fault(SUSPECT, message, _AT, help=help_))
            return scheme
        alike = [tag for tag in counts if _ENTITY.fullmatch(tag) and tag_schemes.parts(tag) is None]
        others = [tag for tag in counts if tag not in alike and tag.casefold() not in tag_schemes.OUTSIDE_ALIKE]
        if sum(counts[tag] for tag in alike) > sum(counts[tag] for tag in others):
            message = f"the tags in `{self.column}` count as plain, and most look like those of entities: `{excerpt(alike[0])}`"
            help_ = "write such tags as `B-PER`, `I-PER` and `O`; if they mark no entities, write `scheme: plain`"
            context.tell(Fault(SUSPECT, message, _AT, help=help_))
        return scheme

    def _odd(self, odd: Collection[str], counts: Mapping[str, int], rows: Sequence[Tags | None]) -> Fault:
        """The fault of a tag that marks no entity, where most do."""
        places = ((row, word, tag) for row, tags in enumerate(rows, 1) for word, tag in enumerate(tags or (), 1))
        row, word, first = next(place for place in places if place[2] in odd)
        total = sum(counts[tag] for tag in odd)
        message = f"word {word} in row {row} of `train` has the tag `{excerpt(str(first))}`, which marks no entity"
        which = "1 tag of `train` is" if total == 1 else f"{total:,} tags of `train` are"
        note = f"{which} neither `O` nor that of an entity: {listed(ordered(odd), 5)}"
        plain = "" if self.of_entities else "; `scheme: plain` takes all tags as they are"
        help_ = f"correct it: tags are `O`, `B-PER`, `I-PER` and the like{plain}"
        return self._placed(Fault("KD312", message, _AT, notes=(note,), help=help_), "train", row, word)

    def _placed(self, fault: Fault, split: str, row: int, word: int) -> Fault:
        return with_place(fault, self.find and self.find(split, row, word))

    def _checked(self, split: str, row: int, tags: Tags, scheme: Scheme) -> Tags:
        """The checked tags of a row, converted to the scheme that is learnt."""
        places = [place for place, tag in enumerate(tags) if tag is not None]
        kept = [tag for tag in tags if tag is not None]
        found = tag_schemes.mistake(kept, scheme)
        if found is not None:
            place, why = found
            word = places[place]
            message = f"word {word + 1} in row {row} of `{split}` has the tag `{excerpt(kept[place])}`: {why}"
            help_ = "correct the tag"
            if scheme == "iob2" and tag_schemes.mistake(kept, "iob1") is None:
                help_ = "with `scheme: iob1` it begins an entity"
            elif self.of_entities is None:
                help_ = "correct the tag; `scheme: plain` takes all tags as they are"
            at = ("tags",) if self.scheme is None else ("scheme",)
            fault = Fault("KD312", message, at, help=help_, notes=(f"the scheme is `{scheme}`",))
            raise self._placed(fault, split, row, word + 1)
        goal = self.convert_to or scheme
        made = list(tags)
        learnt = kept if goal == scheme else tag_schemes.written(tag_schemes.spans(kept), len(kept), goal)
        for place, tag in zip(places, learnt, strict=True):
            made[place] = tag
        return made

    def _numbered(self, split: str, rows: Sequence[Tags | None], names: Sequence[str]) -> list[list[int] | None]:
        numbers = {name: number for number, name in enumerate(names)}
        found: list[list[int] | None] = []
        for row, tags in enumerate(rows, 1):
            for word, tag in enumerate(tags or (), 1):
                if tag is not None and tag not in numbers:
                    at = ("labels",) if self.labels is not None else _AT
                    raise self._placed(label_names.unknown(tag, names, split, row, at, word), split, row, word)
            found.append(None if tags is None else [NO_TAG if tag is None else numbers[tag] for tag in tags])
        return found

    def _tell(self, counts: Mapping[str, Counter[str]], context: TaskContext) -> None:
        train = counts["train"]
        suspects.report(train, context, column=self.column, at=_AT, unit="word", scores=False)
        suspects.one_class(counts, context, column=self.column, at=_AT, unit="word")
        kinds = {_kind(tag) for tag in train}
        suspects.without_rows([tag for tag in self.labels or () if _kind(tag) in kinds], self.labels or (), context)


def needs_entities(key: str, value: str, why: str) -> Fault:
    """The fault of a setting that plain tags cannot have."""
    message = f"`{key}: {value}` needs tags that mark entities, and {why}"
    return Fault("KD312", message, (key,), help="remove it; tags of entities are `O`, or begin as in `B-PER`, `I-PER`")


def _unless_empty(tags: Tags) -> Tags | None:
    return tags if any(tag is not None for tag in tags) else None


def _kind(tag: str) -> tuple[str, str]:
    """The type of an entity's tag, or the tag: a tag such as `I-PER` is not missing where `B-PER` is there."""
    found = tag_schemes.parts(tag)
    return ("", tag) if found is None or found[0] == OUTSIDE else ("entity", found[1])


def _names(sentences: Sequence[Tags | None], scheme: Scheme) -> tuple[str, ...]:
    """The tags of the sentences; for entities all tags of each type, so that other splits have no unknown ones."""
    tags = {tag for of in sentences for tag in of or () if tag is not None}
    found = ordered(tags) if scheme == "plain" else [*_of_entities(tags, scheme)]
    if len(found) < 2:
        raise Fault("KD312", f"`train` has only the tag `{excerpt(found[0])}`", _AT)
    return tuple(found)


def _of_entities(tags: Collection[str], scheme: Scheme) -> Iterator[str]:
    if OUTSIDE in tags:
        yield OUTSIDE
    found = map(tag_schemes.parts, tags)
    for kind in ordered(parts[1] for parts in found if parts is not None and parts[0] != OUTSIDE):
        yield from (tag_schemes.join(prefix, kind) for prefix in tag_schemes.PREFIXES[scheme])
