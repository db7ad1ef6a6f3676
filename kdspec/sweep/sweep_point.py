"""The points of a sweep: values for its settings, each of which is run with every seed."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdspec.report.comparison.setting_table import short_paths
from kdspec.sweep.axis import GridAxis, grid_axis

_LONGEST = 60
"""Letters of a point in the name of a run."""
_OTHER = re.compile(r"[^\w.+-]+|\.{2,}")
_DIGEST = 6


@dataclass(frozen=True)
class SweepPoint:
    """Values by path, as `--set` takes them, in the order of the axes."""

    values: Mapping[str, str]

    @property
    def label(self) -> str:
        """The point in words: `temperature=2, lr=1e-4`."""
        short = short_paths(list(self.values))
        return ", ".join(f"{path}={text}" for path, text in zip(short, self.values.values(), strict=True))

    @property
    def slug(self) -> str:
        """The point in the name of a folder; two points have different ones, whatever other points there are."""
        short = short_paths(list(self.values))
        exact = "_".join(f"{path}-{text}" for path, text in zip(short, self.values.values(), strict=True))
        plain = _OTHER.sub("-", exact).strip("-.")
        # Letters that a name cannot have, case that a file system may ignore, and signs that look like the hyphens here.
        if plain == exact and len(plain) <= _LONGEST and plain == plain.lower() and "+" not in plain:
            return plain
        digest = hashlib.sha256(exact.encode()).hexdigest()[:_DIGEST]
        return f"{plain.replace('+', '')[:_LONGEST].strip('-.')}-{digest}"

    @property
    def data(self) -> dict[str, Any]:
        """The values as data, by path."""
        return {path: grid_axis(f"{path}={text}").values[0] for path, text in self.values.items()}

    @property
    def sets(self) -> tuple[str, ...]:
        """The point as arguments of `--set`."""
        return tuple(f"{path}={text}" for path, text in self.values.items())


@dataclass(frozen=True)
class SweepRun:
    """A point with a seed."""

    point: SweepPoint
    seed: int

    @property
    def name(self) -> str:
        """The name of the run, and of its folder."""
        slug = self.point.slug
        return f"{slug}_seed-{self.seed}" if slug else f"seed-{self.seed}"

    @property
    def sets(self) -> tuple[str, ...]:
        """The run as arguments of `--set`."""
        return (*self.point.sets, f"name={self.name}", f"seed={self.seed}")


def swept_values(runs: Iterable[SweepRun]) -> dict[str, dict[str, Any]]:
    """For each path that is swept the value of each run, by its name."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for path, value in run.point.data.items():
            found.setdefault(path, {})[run.name] = value
    return found


def grid_points(axes: Sequence[GridAxis]) -> Iterator[SweepPoint]:
    """The product of the axes; the values of the last one change fastest."""
    paths = [axis.path for axis in axes]
    for texts in itertools.product(*(axis.texts for axis in axes)):
        yield SweepPoint(dict(zip(paths, texts, strict=True)))
