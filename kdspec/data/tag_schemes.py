"""Word tags such as `B-PER`: tagging schemes, and conversion between tags and entity spans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

Scheme = Literal["iob1", "iob2", "bmes", "bioes", "bilou", "plain"]
"""`plain`: each tag belongs to its word alone, such as a part of speech."""

TagSpan = tuple[str, int, int]
"""The type of an entity, its first word, and the word after its last."""

OUTSIDE = "O"
"""The tag of a word that is in no span."""
OUTSIDE_ALIKE = frozenset(("o", "0"))
"""How it is misspelt, without its case."""
PREFIXES = MappingProxyType({"iob1": "BI", "iob2": "BI", "bmes": "BMES", "bioes": "BIES", "bilou": "BILU"})
"""The prefixes of each scheme, besides `O`."""

_ALIKE = MappingProxyType({"M": "I", "L": "E", "U": "S"})
_OTHER_NAMES = MappingProxyType({"bmes": {"I": "M"}, "bilou": {"E": "L", "S": "U"}})


def parts(tag: str) -> tuple[str, str] | None:
    """`B-PER` as `B` and `PER`; the type is empty for `O` and for a `B` without one. None for a tag of no entity."""
    prefix, dash, kind = tag.partition("-")
    if prefix == OUTSIDE:
        return None if dash else (OUTSIDE, "")
    return (prefix, kind) if len(prefix) == 1 and prefix in "BIMESLU" and bool(kind) == bool(dash) else None


def find_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of tags, inferred from their prefixes."""
    sentences = list(sentences)
    found = {parts(tag) for tag in {tag for tags in sentences for tag in tags}}
    prefixes = {part[0] for part in found if part is not None} - {OUTSIDE}
    if None in found or not prefixes:
        return "plain"
    if "M" in prefixes:
        return "bmes"
    if prefixes & {"L", "U"}:
        return "bilou"
    if prefixes & {"E", "S"}:
        return "bioes"
    # In IOB1, `B-` is used only if an entity directly follows another of its type.
    older = "B" not in prefixes or any(mistake(tags, "iob2") for tags in sentences)
    return "iob1" if older and not any(_needless(tags) for tags in sentences) else "iob2"


def odd(counts: Mapping[str, int]) -> list[str]:
    """The tags that mark no entity, if most of the others than `O` do; each `counts` as often as it is there."""
    found = {tag: parts(tag) for tag in counts}
    wrong = [tag for tag, part in found.items() if part is None]
    right = sum(counts[tag] for tag, part in found.items() if part is not None and part[0] != OUTSIDE)
    # One misspelt `O` may stand for many: it says nothing about the others.
    return wrong if right > sum(counts[tag] for tag in wrong if tag.casefold() not in OUTSIDE_ALIKE) else []


def mistake(tags: Sequence[str], scheme: Scheme) -> tuple[int, str] | None:
    """The first word with a tag that breaks the rules of the scheme, and why; None if all tags are valid."""
    if scheme == "plain":
        return None
    before, kind = OUTSIDE, ""
    for place, tag in enumerate(tags):
        found = parts(tag)
        if found is None or (found[0] != OUTSIDE and found[0] not in PREFIXES[scheme]):
            known = ", ".join(f"`{prefix}-`" for prefix in PREFIXES[scheme])
            return place, f"a tag is `O` or begins with {known}"
        prefix = _ALIKE.get(found[0], found[0])
        inside = prefix in "IE" and scheme != "iob1"
        if inside and (before not in "BI" or found[1] != kind):
            return place, f"it continues an entity that has not begun, after {_before(tags, place)}"
        if scheme not in ("iob1", "iob2") and before in "BI" and not inside:
            return place, f"the entity before it has no end, after {_before(tags, place)}"
        before, kind = prefix, found[1]
    if scheme not in ("iob1", "iob2") and before in "BI":
        return len(tags) - 1, "the sentence ends within an entity"
    return None


def spans(tags: Sequence[str]) -> list[TagSpan]:
    """The entities of a sentence, in order.

    Tags that break the rules are read as in CoNLL's own evaluation: an entity begins at a tag of another type than the
    one before, or at one that continues nothing.
    """
    found: list[TagSpan] = []
    before, kind, first = OUTSIDE, "", 0
    for place, tag in enumerate((*tags, OUTSIDE)):
        prefix, now = parts(tag) or (OUTSIDE, "")
        prefix = _ALIKE.get(prefix, prefix)
        new = prefix in "BS" or before in "ESO" or prefix == OUTSIDE or now != kind
        if new and before != OUTSIDE:
            found.append((kind, first, place))
        if new:
            first = place
        before, kind = prefix, now
    return found


def spans_of(tags: Mapping[int, str], words: Sequence[int]) -> list[TagSpan]:
    """The entities of some words of a sentence, from the tags by word; places are among these words."""
    return spans([tags.get(word, OUTSIDE) for word in words])


def written(entities: Iterable[TagSpan], length: int, scheme: Scheme) -> list[str]:
    """The tags of a sentence with these entities, which do not overlap."""
    tags = [OUTSIDE] * length
    ends, names = scheme not in ("iob1", "iob2"), _OTHER_NAMES.get(scheme, {})
    for kind, first, end in entities:
        prefixes = ["B", *["I"] * (end - first - 1)]
        if ends:
            prefixes[-1] = "S" if end - first == 1 else "E"
        follows = first > 0 and tags[first - 1] != OUTSIDE and (parts(tags[first - 1]) or ("", ""))[1] == kind
        if scheme == "iob1" and not follows:
            prefixes[0] = "I"
        for place, prefix in enumerate(prefixes, first):
            tags[place] = join(names.get(prefix, prefix), kind)
    return tags


def join(prefix: str, kind: str) -> str:
    """`B` and `PER` as `B-PER`."""
    return f"{prefix}-{kind}" if kind else prefix


def _needless(tags: Sequence[str]) -> bool:
    """Whether the tags have a `B-` where IOB1 has none."""
    for place, tag in enumerate(tags):
        prefix, kind = parts(tag) or ("", "")
        before = parts(tags[place - 1]) if place else None
        if prefix == "B" and (before is None or before[0] == OUTSIDE or before[1] != kind):
            return True
    return False


def _before(tags: Sequence[str], place: int) -> str:
    return f"`{tags[place - 1]}`" if place else "the beginning of the sentence"


def continued(labels: Sequence[str]) -> list[int]:
    """For each of the tags the number of that of the further tokens of the word: `I-PER` for `B-PER`, or else itself."""
    numbers = {name: number for number, name in enumerate(labels)}
    found = []
    for name, number in numbers.items():
        prefix, kind = parts(name) or ("", "")
        inside = (join(letter, kind) for letter in "IM") if prefix == "B" else ()
        found.append(next((numbers[other] for other in inside if other in numbers), number))
    return found
