"""How threads that compute together wait for each other."""

from __future__ import annotations

from collections.abc import MutableMapping

_TURNS = "10000"
"""Some hundredths of a millisecond: longer than the others need on an idle machine."""


def share_processors(environment: MutableMapping[str, str]) -> None:
    """Let a waiting thread sleep soon, unless the environment says how it waits; before torch is imported.

    GNU's OpenMP lets it turn in a loop for several milliseconds. Where another program wants the processor that it turns
    on, each of some thousand waits of a step takes that long: a step took nine times as long as on an idle machine, and
    three times so; on an idle machine it takes what it took.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _TURNS)
