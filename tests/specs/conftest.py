"""The components that the specs of the library name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.registry.registry import load_registry

PLUGINS = Path(__file__).parent.parent.parent / "plugins"


@pytest.fixture(scope="session")
def every_component():
    """The built-ins, and the packages in `plugins/` whether they are installed or not."""
    packages = [file.parent for file in PLUGINS.glob("*/pyproject.toml")]
    with pytest.MonkeyPatch.context() as patch:
        for package in packages:
            patch.syspath_prepend(package)
        made = load_registry(*(__import__(package.name.replace("-", "_")) for package in packages), installed=False)
        assert not made.problems
        yield made
