"""The wheel and the source distribution: what they contain, and that the installed package works without a checkout."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SITE = Path(pytest.__file__).parent.parent
ROWS = [("good film", "good"), ("bad film", "bad"), ("a fine one", "good"), ("dull and long", "bad")] * 8
TINY = "from kdspec.testing import tiny; tiny('teacher')"

pytestmark = pytest.mark.slow


def built(folder, target, output):
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(output)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(output.glob("*.whl" if target == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, unpacked."""
    output = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built(ROOT, "sdist", output)) as archive:
        archive.extractall(output, filter="data")
    return next(path for path in output.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that is made of the source distribution."""
    return built(sdist, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel, in an empty folder: `installed("kdspec", "list")`.

    The packages that kdspec depends on are links to those of the environment that runs the tests.
    """
    home = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "env"], check=True)
    site = next((home / "env" / "lib").glob("python*/site-packages"))
    for path in SITE.iterdir():
        if path.suffix != ".pth" and "kdspec" not in path.name:
            (site / path.name).symlink_to(path)
    python = home / "env" / "bin" / "python"
    install = ["-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True)
    (home / "work").mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(program, *arguments, code=0):
        command = [python.with_name(program), *arguments]
        done = subprocess.run(
            command,
            cwd=home / "work",
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run.folder = home / "work"
    run.site = site
    return run


def test_the_wheel_of_the_source_distribution_is_that_of_the_checkout(wheel, tmp_path):
    names = [sorted(zipfile.ZipFile(file).namelist()) for file in (wheel, built(ROOT, "wheel", tmp_path))]
    assert names[0] == names[1]


def test_nothing_but_the_package_is_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"kdspec"}
    assert not [name for name in names if "/assets/" in name or "__pycache__" in name or name.endswith(".safetensors")]


def test_the_installed_package_has_its_pages_specs_and_schema(installed):
    assert Path(installed("python", "-c", "import kdspec; print(kdspec.__file__)").strip()).is_relative_to(
        installed.site
    )
    assert "KD201" in installed("kdspec", "explain", "KD201")
    assert '"$schema"' in installed("kdspec", "schema")
    assert installed("kdspec", "plugins").startswith("kdspec ")
    for name in ("quickstart", "recipes/tinybert", "answers/recorded", "basics/tagging"):
        installed("kdspec", "init", f"{name}.yaml", "--from", name)
        assert (installed.folder / f"{name}.yaml").is_file()


def test_the_installed_package_runs_a_spec_on_own_data_from_an_empty_folder(installed):
    with (installed.folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *ROWS])
    installed("python", "-c", TINY)
    installed("kdspec", "init", "--data", "rows.csv", "--teacher", "./teacher")
    installed("kdspec", "validate", "spec.yaml")
    assert "distil" in installed("kdspec", "plan", "spec.yaml", "--static")
    assert "student  runs/spec/student" in installed("kdspec", "run", "spec.yaml", "--device", "cpu")
    report = installed.folder / "runs" / "spec" / "report.html"
    report.unlink()
    installed("kdspec", "report", "runs/spec")
    assert report.is_file()
    installed("kdspec", "export", "runs/spec", "--onnx", "--int8", "-o", "exported")
    assert (installed.folder / "exported" / "model-int8.onnx").is_file()
    assert "good" in installed("python", "exported/use.py", "good film", "good film")
