"""TextBrewer's list of matches -> the `matches` of a spec. Pairs of layers with equal settings become one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from kdspec.source.scalars import resolve
from kdspec.textbrewer.configuration import IntermediateMatch

Dialect = Literal["master", "pypi"]

# The layers of attention in TextBrewer's own lists; its example's models have no attention at index 0.
_COUNTED_FROM_1: Mapping[str, frozenset[tuple[int, int]]] = MappingProxyType(
    {
        loss: frozenset({(4, 1), (8, 2), (12, 3), (3, 1), (6, 2), (9, 3), (12, 4)})
        for loss in ("attention_mse", "attention_ce", "attention_mse_sum", "attention_ce_mean")
    }
)
_OPTIONS = ("lr", "weight_decay")
_SCALED = ("mmd", "nst")


@dataclass
class Group:
    """Pairs of layers with the same feature, loss, weight and projection."""

    match: IntermediateMatch
    pairs: list[tuple[list[int], list[int]]] = field(default_factory=list)


def counted_from(matches: Sequence[IntermediateMatch]) -> int | None:
    """The index of the first attention layer in the list, 0 or 1; None if it is ambiguous."""
    found = [match for match in matches if match.feature == "attention"]
    if any(0 in (*match.layer_T, *match.layer_S) for match in found):
        return 0
    pairs = [(match.loss.name, (match.layer_T[0], match.layer_S[0])) for match in found]
    return 1 if pairs and all(pair in _COUNTED_FROM_1.get(loss, ()) for loss, pair in pairs) else None


def lines(matches: Sequence[IntermediateMatch], dialect: Dialect, first: int) -> Iterator[str]:
    """A line for each group, with TextBrewer's widths as a comment.

    Args:
        matches: the list.
        dialect: the version of TextBrewer that `mmd` should match.
        first: the number of the first attention layer in the list.
    """
    for group in _groups(matches, first):
        match = group.match
        entries = [f"feature: {match.feature}", f"loss: {_loss(match, dialect)}", _layers(group)]
        comments = []
        if match.weight != 1:
            entries.append(f"weight: {number(match.weight)}")
        if match.proj is not None:
            name, options = match.proj.projection.name, match.proj.options
            known = {key: value for key, value in options.items() if key in _OPTIONS}
            written = ", ".join(f"{key}: {number(value)}" for key, value in known.items())
            entries.append(f"projection: {{{name}: {{{written}}}}}" if known else f"projection: {name}")
            comments.append(f"{match.proj.student} → {match.proj.teacher}")
            left = [f"`{key}`" for key in options if key not in _OPTIONS]
            if left:
                comments.append(f"{', '.join(left)} of its optimizer group cannot be set here")
        yield f"- {{{', '.join(entries)}}}" + (f" # {'; '.join(comments)}" if comments else "")


def number(value: float) -> str:
    """A number as YAML, of its first version too: that has no numbers with an exponent and without a point."""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    digits, exponent, power = repr(value).partition("e")
    return f"{digits if '.' in digits or not exponent else f'{digits}.0'}{exponent}{power}"


def text(value: str) -> str:
    """A name as YAML."""
    return value if resolve(value) == value and all(c.isalnum() or c in "_-./" for c in value) else f'"{value}"'


def _groups(matches: Sequence[IntermediateMatch], first: int) -> list[Group]:
    groups: dict[Any, Group] = {}
    for match in matches:
        back = first if match.feature == "attention" else 0
        teacher, student = (
            [layer - back if layer > 0 else layer for layer in side] for side in (match.layer_T, match.layer_S)
        )
        key = (match.feature, match.loss.name, match.weight, repr(match.proj))
        groups.setdefault(key, Group(match)).pairs.append((teacher, student))
    return list(groups.values())


def _loss(match: IntermediateMatch, dialect: Dialect) -> str:
    name = text(match.loss.name)
    return f"{{{name}: {{scale: length}}}}" if dialect == "pypi" and match.loss.name in _SCALED else name


def _layers(group: Group) -> str:
    """`layers: {teacher: student}` if that suffices, otherwise `pairs`."""
    alike = all(len(set(side)) == 1 for pair in group.pairs for side in pair)
    teachers = [teacher[0] for teacher, _ in group.pairs]
    if alike and len(set(teachers)) == len(teachers):
        return f"layers: {{{', '.join(f'{teacher[0]}: {student[0]}' for teacher, student in group.pairs)}}}"
    written = [f"{{teacher: {_indices(teacher)}, student: {_indices(student)}}}" for teacher, student in group.pairs]
    return f"pairs: [{', '.join(written)}]"


def _indices(layers: list[int]) -> str:
    return str(layers[0]) if len(layers) == 1 else f"[{', '.join(map(str, layers))}]"
