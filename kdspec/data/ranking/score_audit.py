"""The audit of a teacher's scores of candidates, and a temperature at which they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kdspec.api.spec.bounds import LARGEST_TEMPERATURE, LEAST_TEMPERATURE
from kdspec.diagnostics.diagnostic import Severity
from kdspec.source.read_back import Count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS = 1_000
"""Rows that are looked at."""
_ONE_HOT, _FLAT = 0.99, 0.99
"""The largest probability of a row that is one-hot, and the share of the largest entropy of one that is flat."""
_WANTED = 0.6
"""The share of the largest entropy at the advised temperature."""
_MANY, _MOST, _SOME = 0.5, 0.9, 0.05
_END = 0.01
_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class ScoreFacts:
    """The scores of some rows. Entropies are in nats, means over the rows whose scores are not all equal."""

    looked: Count
    """Rows that were looked at."""
    not_finite: Count = 0
    """Those with a score that is NaN or infinite; the facts below are of the others."""
    rows: Count = 0
    """Those with two candidates or more."""
    spread: float = 0.0
    """The difference between the best and the worst candidate of a row, the median of the rows."""
    constant: Count = 0
    """Rows of which all scores are equal."""
    scaled: Count = 0
    """Rows of which the worst is 0 and the best 1."""
    at_ends: float = 0.0
    """The share of the scores within 0.01 of 0 or 1, if all are between 0 and 1; else 0."""
    temperature: float | None = None
    """The teacher's; None if no softmax is taken of its scores, and the facts below are 0."""
    entropy: float = 0.0
    largest_entropy: float = 0.0
    one_hot: Count = 0
    """Rows with a candidate of the probability 0.99 or more."""
    flat: Count = 0
    """Rows with an entropy of more than 0.99 of the largest."""
    advised: float | None = None
    """A temperature with an entropy of about 0.6 of the largest, if most rows are one-hot or flat."""
    advised_entropy: float = 0.0


class AuditFinding(NamedTuple):
    """A mistake or a note about a teacher's scores."""

    severity: Severity
    message: str
    help: str | None = None
    by_temperature: bool = False
    """Whether the temperature is at fault, and not the scores."""


def audit(scores: Sequence[Sequence[float]], temperature: float | None) -> ScoreFacts:
    """The facts about the scores of some rows.

    Args:
        scores: of each row those of its candidates; a row without scores does not matter.
        temperature: the teacher's; None if no softmax is taken of its scores.
    """
    import numpy as np

    scores = [row for row in scores if row]
    finite = [row for row in scores if all(map(math.isfinite, row))]
    kept = [row for row in finite if len(row) > 1]
    facts = {"looked": len(scores), "not_finite": len(scores) - len(finite), "rows": len(kept)}
    if not kept:
        return ScoreFacts(**facts)
    table = np.full((len(kept), max(map(len, kept))), -np.inf)
    for place, row in enumerate(kept):
        table[place, : len(row)] = row
    there = np.isfinite(table)
    best, worst = table.max(1), np.where(there, table, np.inf).min(1)
    constant = best == worst
    inside = bool((worst >= 0).all() and (best <= 1).all())
    ends = (np.abs(table[there]) <= _END) | (np.abs(table[there] - 1) <= _END)
    made = ScoreFacts(
        **facts,
        spread=float(np.median(best - worst)),
        constant=int(constant.sum()),
        scaled=int(((worst == 0) & (best == 1)).sum()),
        at_ends=float(ends.mean()) if inside else 0.0,
    )
    differing = table[~constant]
    return made if temperature is None or not len(differing) else _at(made, differing, temperature)


def _at(facts: ScoreFacts, table: NDArray[np.float64], temperature: float) -> ScoreFacts:
    """With what the rows are like at the temperature."""
    from dataclasses import replace

    import numpy as np

    largest = np.log(np.isfinite(table).sum(1))
    found, top = _entropies(table, temperature)
    one_hot, flat = int((top > _ONE_HOT).sum()), int((found > _FLAT * largest).sum())
    made = replace(
        facts, temperature=temperature, entropy=float(found.mean()), largest_entropy=float(largest.mean()),
        one_hot=one_hot, flat=flat,
    )  # fmt: skip
    if max(one_hot, flat) <= _MANY * len(table):
        return made
    low, high = math.log(LEAST_TEMPERATURE), math.log(LARGEST_TEMPERATURE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        below = _entropies(table, math.exp(middle))[0].mean() < _WANTED * largest.mean()
        low, high = (middle, high) if below else (low, middle)
    advised = min(max(float(f"{math.exp(low):.2g}"), LEAST_TEMPERATURE), LARGEST_TEMPERATURE)
    entropy = float(_entropies(table, advised)[0].mean())
    # Of rows with one outlier among equal scores no temperature makes more than these are.
    helps = abs(entropy / made.largest_entropy - _WANTED) < abs(made.entropy / made.largest_entropy - _WANTED) / 2
    return replace(made, advised=advised, advised_entropy=entropy) if helps else made


def _entropies(table: NDArray[np.float64], temperature: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The entropy and the largest probability of each row."""
    import numpy as np

    z = (table - table.max(1, keepdims=True)) / temperature
    p = np.exp(z)
    total = p.sum(1)
    weighted = np.where(p > 0, p * np.where(np.isfinite(z), z, 0.0), 0.0).sum(1)
    return np.log(total) - weighted / total, 1 / total


def audit_findings(facts: ScoreFacts, teacher: str, student_temperature: float | None = None) -> Iterator[AuditFinding]:
    """Mistakes and notes about a teacher's scores, with numbers and a fix.

    Args:
        facts: of its scores.
        teacher: its name.
        student_temperature: that of the student, to be kept in the advice.
    """
    if facts.not_finite:
        message = f"teacher `{teacher}` has NaN or infinite scores in {_of(facts.not_finite, facts.looked)}"
        yield AuditFinding("error", message)
    if not facts.rows:
        return
    if facts.constant:
        message = f"teacher `{teacher}` has the same score for all candidates in {_of(facts.constant, facts.rows)}: they teach nothing"
        yield AuditFinding("warning" if facts.constant > _SOME * facts.rows else "note", message)
    if facts.scaled > _MOST * facts.rows:
        message = (
            f"the scores of `{teacher}` are scaled to 0 for the worst and 1 for the best candidate in "
            f"{_of(facts.scaled, facts.rows)}: a row of good candidates looks like one of bad ones"
        )
        yield AuditFinding("note", message, "record the scores as the teacher returns them")
    elif facts.at_ends > _MANY:
        message = (
            f"the scores of `{teacher}` are between 0 and 1, and {facts.at_ends:.0%} of them within {_END} of an end: "
            "a sigmoid has levelled them"
        )
        yield AuditFinding("warning", message, "take the scores before the sigmoid")
    yield from _by_temperature(facts, teacher, student_temperature)


def _by_temperature(facts: ScoreFacts, teacher: str, student_temperature: float | None) -> Iterator[AuditFinding]:
    states = (
        (facts.flat, "flat: all candidates have about the same probability"),
        (facts.one_hot, "one-hot: one candidate has all the probability"),
    )
    differing = facts.rows - facts.constant
    for count, state in states:
        if facts.temperature is None or count <= _MANY * differing:
            continue
        rows = "every row is" if count == differing else f"{_of(count, differing)} are"
        message = (
            f"the scores of `{teacher}` spread over {facts.spread:.2g} within a row: at temperature {facts.temperature:g} "
            f"{rows} {state}"
        )
        help_ = None
        if facts.advised is None and count == facts.flat:
            help_ = f"multiply the scores: no temperature from {LEAST_TEMPERATURE} on tells the candidates apart"
        if facts.advised is not None:
            written = {"student": student_temperature} if student_temperature not in (None, 1) else {}
            sides = ", ".join(f"{side}: {value:g}" for side, value in {**written, "teacher": facts.advised}.items())
            help_ = (
                f"`temperature: {{{sides}}}` gives a mean entropy of {facts.advised_entropy:.1f} of "
                f"{facts.largest_entropy:.1f} nats"
            )
        yield AuditFinding("warning", message, help_, by_temperature=True)


def _of(count: int, every: int) -> str:
    return f"{count:,} of {every:,} rows"
