"""How OpenMP's threads wait for each other."""

from __future__ import annotations

from collections.abc import MutableMapping

_TURNS = "10000"
"""Some hundredths of a millisecond: longer than the other threads need on an idle machine."""


def share_processors(environment: MutableMapping[str, str]) -> None:
    """Make waiting threads sleep soon, unless the environment sets how they wait. Call before torch is imported.

    GNU's OpenMP spins for several milliseconds by default. If another program needs the same processor, each of some
    thousand waits of a step takes that long: a step took nine times as long as on an idle machine, and three times with
    this setting. On an idle machine the setting costs nothing.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _TURNS)
