"""Settings for every test: no network, one thread, nothing left in the user's caches."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "120"

SPECS = Path(__file__).parent.parent / "specs"


@pytest.fixture(scope="session")
def small_assets(tmp_path_factory):
    """A folder like `specs/assets`, with few rows and a model of random weights; the real ones are not needed."""
    from kdspec.testing import tiny

    folder = tmp_path_factory.mktemp("small") / "assets"
    tiny(folder / "all-MiniLM-L6-v2", layers=6, width=48, heads=12)
    (folder / "headlines").mkdir()
    for split in ("train", "validation", "test", "unlabelled"):
        labels = itertools.cycle(["plain", "sarcastic"])
        lines = [f"{split} headline {number},{label}" for number, label in zip(range(40), labels, strict=False)]
        if split == "unlabelled":
            lines = [line.partition(",")[0] for line in lines]
        head = "headline" if split == "unlabelled" else "headline,label"
        (folder / "headlines" / f"{split}.csv").write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small_library(tmp_path_factory, small_assets):
    """A copy of `specs/`, to be read only, with small models and few rows."""
    copied = tmp_path_factory.mktemp("small-library") / "specs"
    shutil.copytree(SPECS, copied, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copytree(small_assets, copied / "assets")
    return copied


@pytest.fixture(scope="session")
def library(tmp_path_factory, small_assets):
    """A copy of `specs/`, to be read only: with the real model where it has been fetched, and few rows."""
    copied = tmp_path_factory.mktemp("library") / "specs"
    shutil.copytree(SPECS, copied, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copytree(small_assets, copied / "assets")
    model, headlines = SPECS / "assets" / "all-MiniLM-L6-v2", SPECS / "assets" / "headlines"
    if (model / "model.safetensors").is_file():
        shutil.rmtree(copied / "assets" / "all-MiniLM-L6-v2")
        (copied / "assets" / "all-MiniLM-L6-v2").symlink_to(model)
    for file in headlines.glob("*.csv"):
        with file.open(encoding="utf-8") as rows:
            (copied / "assets" / "headlines" / file.name).write_text(
                "".join(itertools.islice(rows, 41)), encoding="utf-8"
            )
    return copied


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory):
    """Teacher caches go with the tests, and none of the user's is read."""
    os.environ["KDSPEC_CACHE"] = str(tmp_path_factory.mktemp("teachers"))
    yield
    del os.environ["KDSPEC_CACHE"]


@pytest.fixture
def only_built_ins(monkeypatch):
    """What is installed beside kdspec does not show in what it prints."""
    monkeypatch.setattr("kdspec.plugins.importlib.metadata.entry_points", lambda **_: ())
