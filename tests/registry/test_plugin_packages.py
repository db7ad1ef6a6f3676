"""Each package in `plugins/` as a user meets it: installed, used by a spec, uninstalled."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import kdspec
from kdspec.launch import trackers
from kdspec.source import extends
from kdspec.testing import SmallRun

ROOT = Path(kdspec.__file__).parent.parent
PACKAGES = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
TRACKERS = [
    path for path in PACKAGES if not (ROOT / "specs" / "plugins" / f"{path.name.removeprefix('kdspec-')}.yaml").exists()
]
"""The packages without a component that a spec could name."""
OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKIO_DIR": "trackio"}
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    def python(self, *arguments, code=0, cwd=None):
        """Run its Python; standard output and standard error together."""
        plain = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [self.folder / "bin" / "python", *arguments],
            cwd=cwd,
            env=plain | {"PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def kdspec(self, *arguments, **options):
        return self.python("-m", "kdspec", *arguments, **options)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment with kdspec and what it depends on, borrowed from that of the tests, and without plugins."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    # Some packages tell by this name that others are installed.
    borrowed = tmp_path_factory.mktemp("borrowed") / "site-packages"
    borrowed.mkdir()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    plugins = tuple(package.name.replace("-", "_") for package in PACKAGES)
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().replace("-", "_").lstrip("_").startswith(plugins):
            (borrowed / entry.name).symlink_to(entry)
    made = Environment(folder)
    site = Path(made.python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "borrowed.pth").write_text(f"{ROOT}\n{borrowed}\n", encoding="utf-8")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("package", sorted({*PACKAGES} - {*TRACKERS}), ids=lambda package: package.name)
def test_a_package_is_installed_used_and_uninstalled(package, environment, library, tmp_path):
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = package.name.removeprefix("kdspec-")
    spec = library / "plugins" / f"{name}.yaml"
    stages = extends.load(spec, environ={}).data["stages"]
    # A build leaves something behind in the folder that it builds.
    source = shutil.copytree(package, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))

    environment.python(*PIP, "install", "--quiet", "--no-deps", "--no-build-isolation", source)
    assert f"{project['name']} {project['version']}\n" in environment.kdspec("plugins")
    assert "fine" in environment.kdspec("validate", spec)
    environment.kdspec("run", spec, *short(stages), cwd=tmp_path)
    assert (tmp_path / "runs" / name / "student" / "config.json").is_file()

    environment.python(*PIP, "uninstall", "--quiet", "--yes", project["name"])
    assert project["name"] not in environment.kdspec("plugins")
    for command in ("validate", "run"):
        said = environment.kdspec(command, spec, code=1, cwd=tmp_path)
        assert re.search(rf"error\[KD201\]: unknown [a-z ]+ `{name}`", said)
        assert "Traceback" not in said


def test_the_packages_without_components_are_the_trackers():
    assert tuple(path.name.removeprefix("kdspec-") for path in TRACKERS) == trackers.PACKAGES


@pytest.mark.parametrize("package", TRACKERS, ids=lambda package: package.name)
def test_a_tracker_is_installed_used_and_uninstalled(package, environment, tmp_path, monkeypatch):
    name, spec = package.name.removeprefix("kdspec-"), SmallRun(tmp_path / "small").folder / "spec.yaml"
    source = shutil.copytree(package, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for variable, value in OFFLINE.items():
        monkeypatch.setenv(variable, value)

    environment.python(*PIP, "install", "--quiet", "--no-deps", "--no-build-isolation", source)
    assert f"{package.name} 0.1.0\n" in environment.kdspec("plugins")
    environment.kdspec("run", spec, "--track", name, cwd=tmp_path)
    run = tmp_path / "runs" / "small"
    assert " raised " not in (run / "events.jsonl").read_text(encoding="utf-8")
    assert (run / f"{name}-id.txt").is_file()

    environment.python(*PIP, "uninstall", "--quiet", "--yes", package.name)
    said = environment.kdspec("run", spec, "--track", name, code=2, cwd=tmp_path)
    assert f"`pip install kdspec-{name}` brings `{name}`" in " ".join(said.split())


def short(stages):
    """Arguments that make a run short."""
    for stage in stages:
        for value in ("epochs=null", "steps=2", "batch_size=8"):
            yield from ("--set", f"stages.{stage}.training.{value}")
