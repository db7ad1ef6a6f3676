"""Puts the specs of this folder into the package, for `kdspec init --from`; what `fetch.py` brings stays out."""

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
        for path in sorted(folder.rglob("*.yaml")):
            inside = path.relative_to(folder)
            if inside.parts[0] != "assets":
                build_data["force_include"][str(path)] = f"kdspec/specs/{inside.as_posix()}"
