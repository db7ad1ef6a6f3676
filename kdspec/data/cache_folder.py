"""The folder of kdspec's caches: teacher outputs and encoded texts."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "KDSPEC_CACHE"
"""The environment variable that names the folder."""


def cache_folder() -> Path:
    """The folder that `KDSPEC_CACHE` names, or `kdspec/teachers` in the user's cache folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "kdspec" / "teachers"
