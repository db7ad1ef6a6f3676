"""Splits that are a share of the training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from kdspec.api.component import invalid_value
from kdspec.api.kinds.context import DatasetContext
from kdspec.diagnostics.fault import Fault

Share = Annotated[float, Field(gt=0, lt=1)]
"""A share of the rows of `train`."""


def form(value: Any) -> str:
    """`share` for a number and `named` for anything else: the form in which a split is written."""
    return "share" if isinstance(value, (int, float)) and not isinstance(value, bool) else "named"


def left_of(shares: Mapping[str, float]) -> None:
    """Raise an error of validation if shares leave nothing of `train`."""
    if sum(shares.values()) >= 1:
        named = "` and `".join(shares)
        raise invalid_value(f"the shares `{named}` leave no row of `train`", [*shares][-1])


def parted(train: Any, shares: Mapping[str, float], context: DatasetContext) -> dict[str, Any]:
    """`train` and the splits that are shares of it.

    A row's split depends on the seed, its texts and the other rows, and on nothing else in the spec. Rows that are equal in
    their texts, blanks and case aside, are in one split. Each split has about its share of each class, and one row
    of each class stays in `train`.

    Raises:
        Fault: KD502 for a split that would have no row.
    """
    groups = list(_in_order(list(_groups(train, context)), context.seed))
    found = _divided(groups, shares)
    empty = next((split for split, rows in found.items() if not rows), None)
    if empty is not None:
        split = empty if empty in shares else next(iter(shares))
        message = f"`{empty}` would have no row: `train` has {len(train)} in all"
        notes = ("rows with equal texts are not divided, and one row of each class stays in `train`",)
        raise Fault("KD502", message, (split,), notes=notes, help=_way_out(groups, shares, split))
    return {split: train.select(sorted(rows)) for split, rows in found.items()}


_STEPS = 40
"""Shares that are tried for one that works: 1/40, 2/40, ..."""


def _divided(groups: Sequence[tuple[_Group, bool]], shares: Mapping[str, float]) -> dict[str, list[int]]:
    total = sum(len(group.rows) for group, _ in groups)
    found: dict[str, list[int]] = {split: [] for split in (*shares, "train")}
    done = 0
    for group, stays in groups:
        middle = (done + len(group.rows) / 2) / total
        split = "train" if stays else _of(middle, shares)
        done += 0 if stays else len(group.rows)
        found[split] += group.rows
    return found


def _way_out(groups: Sequence[tuple[_Group, bool]], shares: Mapping[str, float], split: str) -> str:
    """The help for a split without a row: the nearest share of it that leaves rows everywhere, if one does."""
    others = sum(shares.values()) - shares[split]
    tried = (number / _STEPS for number in range(1, _STEPS) if others + number / _STEPS < 1)
    for share in sorted(tried, key=lambda share: abs(share - shares[split])):
        if all(_divided(groups, {**shares, split: share}).values()):
            return f"write `{split}: {share:g}`, or a file of its own"
    return f"write a file of its own for `{split}`"


@dataclass(frozen=True)
class _Group:
    """Rows that are equal in their texts, with the class of the first of them."""

    key: str
    rows: list[int]
    label: str | None


def _groups(train: Any, context: DatasetContext) -> Iterator[_Group]:
    asked = context.together or [name for name in train.column_names if name not in context.classes]
    texts = _columns(train, asked)
    labels = _columns(train, context.classes)
    rows: dict[str, list[int]] = {}
    for row in range(len(train)):
        rows.setdefault(repr([_plain(column[row]) for column in texts]), []).append(row)
    for key, members in rows.items():
        classes = [column[members[0]] for column in labels]
        known = any(value not in (None, "") for value in classes)
        yield _Group(key, members, repr(classes) if known else None)


def _columns(train: Any, names: Collection[str]) -> list[Sequence[Any]]:
    return [train[name][:] for name in names if name in train.column_names]


def _plain(value: Any) -> Any:
    return " ".join(value.split()).casefold() if isinstance(value, str) else value


def _in_order(groups: Sequence[_Group], seed: int) -> Iterator[tuple[_Group, bool]]:
    """The groups in the order in which splits take them, and whether a group stays in `train`.

    The classes are interleaved in proportion: of each, the group with the number i of n is somewhere in the i-th of n equal parts.
    """
    strata: dict[str | None, list[tuple[bytes, _Group]]] = {}
    for group in groups:
        digest = hashlib.sha256(f"{seed} {group.key}".encode(errors="surrogatepass")).digest()
        strata.setdefault(group.label, []).append((digest, group))
    placed = []
    for label, members in strata.items():
        members.sort(key=lambda each: each[0])
        for number, (digest, group) in enumerate(members):
            within = int.from_bytes(digest[-8:]) / 2**64
            stays = label is not None and number == len(members) - 1
            placed.append(((number + within) / len(members), digest, group, stays))
    placed.sort(key=lambda each: each[:2])
    return ((group, stays) for _, _, group, stays in placed)


def _of(middle: float, shares: Mapping[str, float]) -> str:
    """The split of a group of rows that has this place among all, from 0 to 1."""
    bound = 0.0
    for split, share in shares.items():
        bound += share
        if middle < bound:
            return split
    return "train"
