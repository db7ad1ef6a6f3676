"""Which class of a loaded head is which class of the task: by their names, however these are spelt; never by position."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kdspec.diagnostics.diagnostic import excerpt
from kdspec.source.scalars import IntegerTooLargeError, resolve

Relation = Literal["same", "order", "more", "fewer", "some", "none"]
"""How the classes of a head are to those of the task: the same ones in the same order; the same ones in another order; these
and more; some of these and no others; some the same and others not; none the same."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
_IGNORED = frozenset({"Zs", "Zl", "Zp", "Pd", "Pc", "Cc", "Cf"})
_PLAIN = re.compile(r"[^\W\d][\w./+-]*( [\w./+-]+)*")


def folded(name: str) -> str:
    """The name without case, blanks, `_` and `-`. A number keeps its sign, and a name that would be empty stays as it is."""
    text = uncased(name)
    if _NUMBER.fullmatch(text):
        return text.removeprefix("+").removesuffix(".0")
    return "".join(c for c in text if unicodedata.category(c) not in _IGNORED) or name


def uncased(name: str) -> str:
    """The name without case and without blanks around it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


@dataclass(frozen=True)
class ClassMatch:
    """The classes of a head beside those of the task."""

    theirs: tuple[str, ...]
    """Those of the head, in the order of its logits."""
    ours: tuple[str, ...]
    """Those of the task, in the order of its logits."""
    order: tuple[int | None, ...]
    """For each class of the task the position of the same one in the head; None if the head does not have it."""

    @property
    def relation(self) -> Relation:
        """How the two are to each other."""
        found = [number for number in self.order if number is not None]
        if not found:
            return "none"
        if len(found) == len(self.ours) == len(self.theirs):
            return "same" if found == sorted(found) else "order"
        if len(found) == len(self.ours):
            return "more"
        return "fewer" if len(found) == len(self.theirs) else "some"

    @property
    def unknown(self) -> tuple[str, ...]:
        """The classes of the head that the task does not have."""
        taken = set(self.order)
        return tuple(name for number, name in enumerate(self.theirs) if number not in taken)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The classes of the task that the head does not have."""
        return tuple(name for name, number in zip(self.ours, self.order, strict=True) if number is None)

    def in_their_order(self) -> list[str]:
        """The classes of the head in its order, with the task's spelling of those that it has too."""
        spelt = {number: name for name, number in zip(self.ours, self.order, strict=True)}
        return [spelt.get(number, name) for number, name in enumerate(self.theirs)]

    def mapping(self) -> dict[str, str]:
        """The name in the task for each class of the head; those without the same name are paired in their order."""
        rest = iter(self.lacking)
        taken = {number: name for name, number in zip(self.ours, self.order, strict=True) if number is not None}
        return {name: taken[number] if number in taken else next(rest, "") for number, name in enumerate(self.theirs)}

    def by_position(self, most: int = 40) -> str:
        """Both lists side by side, with the positions; with the number of those left out."""
        pairs = list(zip(self.theirs, self.ours, strict=False))
        found = ", ".join(f"{number} {shown(name)} = {shown(own)}" for number, (name, own) in enumerate(pairs[:most]))
        return found if len(pairs) <= most else f"{found} and {len(pairs) - most} more"


def match(theirs: Sequence[str], ours: Sequence[str]) -> ClassMatch:
    """Find each class of the task among those of a head: by its name as it is, without case, and folded, in this order.

    Names count where they are the only ones of their spelling on both sides: `A-` and `a-` are the same beside `A`.

    Args:
        theirs: the names of the head's classes, in the order of its logits.
        ours: those of the task.
    """
    order: dict[int, int] = {}
    for key in (str, uncased, folded):
        taken = set(order.values())
        there = _unique({number: key(name) for number, name in enumerate(theirs) if number not in taken})
        here = _unique({number: key(name) for number, name in enumerate(ours) if number not in order})
        order |= {number: there[name] for name, number in here.items() if name in there}
    return ClassMatch(tuple(theirs), tuple(ours), tuple(order.get(number) for number in range(len(ours))))


def renamed(theirs: Sequence[str], labels: Mapping[str, str]) -> tuple[str, ...]:
    """The name in the task for each class of a head or of recorded answers; its own where the mapping has none for it.

    Args:
        theirs: the names of the classes.
        labels: the name in the task by class, whose keys are matched with `theirs` as `match` does; two may have one name.
    """
    keys = tuple(labels)
    found = match(keys, theirs)
    return tuple(
        name if number is None else labels[keys[number]] for name, number in zip(theirs, found.order, strict=True)
    )


def groups(names: Sequence[str], ours: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """For each class of the task the positions of the classes that are it: one, several to be merged, or none.

    Args:
        names: the name in the task for each class, as `renamed` returns them; those that are no class of it are in no group.
        ours: the classes of the task.
    """
    once = tuple(dict.fromkeys(names))
    at: dict[str, list[int]] = {name: [] for name in once}
    for number, name in enumerate(names):
        at[name].append(number)
    return tuple(() if number is None else tuple(at[once[number]]) for number in match(once, ours).order)


def is_number(name: str) -> bool:
    """Whether the name is a number."""
    return _NUMBER.fullmatch(name.strip()) is not None


def numbered(count: int) -> tuple[str, ...]:
    """The names that the transformers library gives to classes without names: `LABEL_0`, `LABEL_1` and so on."""
    return tuple(f"LABEL_{number}" for number in range(count))


def shown(name: str) -> str:
    """A name in a message."""
    return f"`{excerpt(name)}`"


def scalar(name: str) -> str:
    """A name as a spec writes it in a list: in quotes where YAML would read something else."""
    try:
        plain = _PLAIN.fullmatch(name) is not None and resolve(name) == name
    except IntegerTooLargeError:
        plain = False
    if plain:
        return name
    quoted = json.dumps(name.replace("${", "$${"), ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def line(key: str, names: Iterable[str]) -> str:
    """`key: [name, name]`, as a spec writes it."""
    return f"{key}: [{', '.join(map(scalar, names))}]"


def mapping_line(key: str, names: Mapping[str, str]) -> str:
    """`key: {name: other, name: other}`, as a spec writes it."""
    return f"{key}: {{{', '.join(f'{scalar(name)}: {scalar(other)}' for name, other in names.items())}}}"


def _unique(found: Mapping[int, str]) -> dict[str, int]:
    """The number of each name that occurs once."""
    times = Counter(found.values())
    return {name: number for number, name in found.items() if times[name] == 1}
