"""The specs of the tutorials are those that were measured, in both languages, and what is shown of an import is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TRANSLATED = {
    "zh/first-spec.md": "first-spec.md",
    "zh/classify.md": "tutorials/classify.md",
    "zh/tag.md": "tutorials/tag.md",
    "zh/questions.md": "tutorials/questions.md",
    "zh/embed.md": "tutorials/embed.md",
    "zh/rank.md": "tutorials/rank.md",
    "zh/llm.md": "tutorials/llm.md",
    "zh/api.md": "tutorials/api.md",
    "zh/textbrewer.md": "tutorials/textbrewer.md",
}
MEASURED = {
    "classify.md": "quickstart.yaml",
    "embed.md": "embeddings/static_student.yaml",
    "llm.md": "answers/llm_reader.yaml",
    "questions.md": "tasks/english_questions.yaml",
    "tag.md": "tasks/english_names.yaml",
}


def fenced(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [block["text"] for block in FENCE.finditer(text) if block["language"] == language]


@pytest.mark.parametrize("page", MEASURED)
def test_a_spec_whose_results_are_shown_is_the_measured_one(page):
    (text,) = fenced(f"tutorials/{page}", "yaml")
    measured = (ROOT / "specs" / MEASURED[page]).read_text(encoding="utf-8")
    assert yaml.safe_load(text) == yaml.safe_load(measured.replace("../assets/", "assets/"))


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translated_page_has_the_specs_and_the_code_of_the_page(page):
    for language in ("yaml", "python", "json", "text"):
        theirs = fenced(TRANSLATED[page], language)
        mine = fenced(page, language)
        if language == "yaml":
            assert list(map(yaml.safe_load, mine)) == list(map(yaml.safe_load, theirs))
        else:
            assert mine == theirs


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translated_page_has_the_commands_of_the_page(page):
    def commands(name: str) -> list[str]:
        return re.findall(r"^ {4}(kdspec .*?)(?: {3,}.*)?$", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)

    assert commands(page) == commands(TRANSLATED[page])


def figures(page: str) -> list[list[str]]:
    """The rows of the tables in which every cell but the first is a measured number, or empty."""
    lines = re.findall(r"^\| .* \|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")][1:] for line in lines]
    number = re.compile(r"(?:[\d.]+(?: (?:%|M|MB|ms))?)?")
    return [row for row in rows if any(row) and all(map(number.fullmatch, row))]


def test_the_readme_has_the_same_figures_in_both_languages():
    assert len(figures("README.md")) > 10
    assert figures("README.zh.md") == figures("README.md")


@pytest.mark.slow
def test_the_import_of_the_tutorial_finds_the_mistake_that_is_shown(tmp_path, small_assets):
    (tmp_path / "assets").symlink_to(small_assets)
    (script,) = fenced("tutorials/textbrewer.md", "python")
    (tmp_path / "distil.py").write_text(script, encoding="utf-8")
    command = [*("import-textbrewer", "distil.py", "-o", "moved.yaml", "--data", "assets/headlines/train.csv")]
    done = subprocess.run(
        [sys.executable, "-m", "kdspec", *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (shown,) = fenced("tutorials/textbrewer.md", "text")
    assert shown in done.stdout + done.stderr
    made = yaml.safe_load((tmp_path / "moved.yaml").read_text(encoding="utf-8"))
    (text,) = fenced("tutorials/textbrewer.md", "yaml")
    told = yaml.safe_load(text)
    assert told["stages"]["distil"] == made["stages"]["distil"]
    assert told["models"]["student"] == made["models"]["student"]
    assert list(told["stages"]) == ["fine_tune", *made["stages"]]


def test_the_readme_has_the_same_commands_in_both_languages():
    first, second = (
        re.findall(r"^ {4}kdspec ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        for page in ("README.md", "README.zh.md")
    )
    assert second == first
