"""The site is built without a broken link or anchor, loads nothing from elsewhere, and can be searched in Chinese too."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="`make docs` installs what builds the site")

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "docs" / "site"
LOADED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?(https?:)?//|<link\b(?![^>]*canonical)[^>]*\bhref=[\"']?(?:https?:)?//"
)
BUILD = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(SITE / "mkdocs.yml")]


@pytest.fixture(scope="module")
def hooks():
    specification = importlib.util.spec_from_file_location("hooks", SITE / "hooks.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*BUILD, "--site-dir", str(folder)], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_a_link_to_a_folder_leads_to_its_readme(hooks):
    (link,) = hooks.LINK.finditer("[a package](plugins/kdspec-dkd#use)")
    assert hooks.to_readme(link, ROOT) == "plugins/kdspec-dkd/README.md#use"
    assert hooks.to_readme(link, ROOT / "docs") == "plugins/kdspec-dkd#use"


def test_what_is_in_a_fence_is_not_a_link(hooks, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```text\n[a](docs/README.md)\n```\n")
    assert list(hooks.targets(page)) == []


def test_only_bars_in_a_table_lose_their_backslash(hooks):
    html = r"<p><code>a \| b</code></p><td><code>a \| b</code></td>"
    assert hooks.on_page_content(html, page=None, config=None, files=None) == (
        r"<p><code>a \| b</code></p><td><code>a | b</code></td>"
    )


def test_lines_of_a_chinese_paragraph_are_joined_and_paragraphs_are_not(hooks):
    broken = "教师与\n学生\n\n- 软\n  标签\n\n损失 loss\n函数"
    assert hooks.BROKEN.sub("", broken) == "教师与学生\n\n- 软标签\n\n损失 loss\n函数"


def pages(tree) -> set[str]:
    """The pages of a list of sections."""
    if isinstance(tree, str):
        return {tree}
    inner = tree.values() if isinstance(tree, dict) else tree
    return set[str]().union(*map(pages, inner))


def test_the_navigation_lists_every_page(hooks):
    there = {path.relative_to(ROOT).as_posix() for pattern in hooks.PAGES for path in ROOT.glob(pattern)}
    assert pages(hooks.navigation()) == there


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(site):
    made = list(site.rglob("*.html"))
    assert len(made) > 50
    assert {str(page): found[0] for page in made if (found := LOADED.search(page.read_text(encoding="utf-8")))} == {}
    styles = "".join(style.read_text(encoding="utf-8") for style in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()[ \"']*https?:", styles) == []


@pytest.mark.slow
def test_a_link_out_of_the_folder_of_the_pages_leads_to_a_page_or_a_file(site):
    page = (site / "docs" / "README" / "index.html", site / "docs" / "index.html")
    text = next(each for each in page if each.is_file()).read_text(encoding="utf-8")
    assert 'href="kdspec.schema.json"' in text
    assert (site / "docs" / "kdspec.schema.json").is_file()
    assert (site / "specs" / "quickstart.yaml").is_file()
    assert (site / "benchmarks" / "quickstart" / "index.html").is_file()


@pytest.mark.slow
def test_chinese_is_searched_by_the_character(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any("蒸馏" in entry["text"] for entry in index["docs"])
    border = index["config"]["separator"]
    assert [part for part in re.split(border, "软标签 for a student、教师") if part] == [
        *("软", "标", "签", "for", "a", "student", "教", "师"),
    ]
