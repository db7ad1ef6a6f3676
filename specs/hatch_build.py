"""Puts the specs of this folder, their small data and `fetch.py` into the package; what `fetch.py` brings stays out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SpecsHook(BuildHookInterface):  # type: ignore[type-arg] # of any builder
    """The build hook that pyproject.toml names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the specs to a wheel; an editable one finds them in the checkout."""
        if version == "editable":
            return
        folder = Path(self.root) / "specs"
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            kept = path.suffix in (".yaml", ".jsonl", ".json", ".conll", ".py") and path != Path(__file__).resolve()
            if kept and inside.parts[0] != "assets" and "__pycache__" not in inside.parts:
                build_data["force_include"][str(path)] = f"kdspec/specs/{inside.as_posix()}"
