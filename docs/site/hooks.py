"""Gives MkDocs the pages of the repository where they are, and the files that they link to; no page is copied or changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parent.parent.parent
PAGES = ("*.md", "docs/**/*.md", "specs/README.md", "benchmarks/*.md", "plugins/*/README.md")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)(?P<file>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
ROW = re.compile(r"^\| \[[^\]]+\]\(([^)#\s]+\.md)\)", re.MULTILINE)
BROKEN = re.compile(r"(?<=[\u3001-\u9fff\uff01-\uff5e])\n {0,2}(?=[\u4e00-\u9fff])")
CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the anchors of headings as code forges do, for which the links are written, and list the pages."""
    settings: dict[str, Any] = config.mdx_configs.setdefault("toc", {})
    settings["slugify"] = slugify(case="lower")
    config.nav = navigation()
    return config


def navigation() -> list[dict[str, list[Any]]]:
    """The sections and their pages, as the indexes list them, so that a new page is in its index and nowhere else."""
    sections = ("Guide", "Reference", "For contributors")
    guide, reference, contributors = (rows("docs/README.md", name) for name in sections)
    elsewhere = ("/README.md", "/gallery.md")
    components = rows("docs/components.md")
    listed = {
        "kdspec": ["README.md", "docs/README.md", *contributors, *named("CONTRIBUTING", "SECURITY", "CHANGELOG")],
        "Tutorials": ["docs/tutorials/README.md", *rows("docs/tutorials/README.md")],
        "Guide": [page for page in guide if not page.endswith(elsewhere)],
        "Reference": [*reference, {"Components by kind": components}],
        "Specs": ["specs/README.md", "docs/gallery.md", *rows("docs/gallery.md"), *found("plugins/*/README.md")],
        "Measured": found("benchmarks/*.md"),
        "中文": ["README.zh.md", "docs/zh/README.md", *rows("docs/zh/README.md")],
    }
    return [{title: pages} for title, pages in listed.items()]


def named(*pages: str) -> list[str]:
    return [f"{page}.md" for page in pages]


def found(pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def rows(index: str, section: str = "") -> list[str]:
    """The pages that the tables of an index list, or those of one of its sections, in their order."""
    text = (ROOT / index).read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    pages = [(ROOT / index).parent / file for file in ROW.findall(text)]
    return [page.resolve().relative_to(ROOT).as_posix() for page in pages]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages, each under its path in the repository, and the other files that they link to."""
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    linked = {path for page in pages for path in targets(page) if path.suffix != ".md" and path.is_file()}
    for path in [*pages, *sorted(linked)]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs passes them by name
    """Lead links to a folder to its README, and join lines of Chinese, between which a browser would show a space."""
    folder = (ROOT / page.file.src_uri).parent
    parts, at = [], 0
    for block in [*FENCED.finditer(markdown), None]:
        text = markdown[at : block.start() if block else len(markdown)]
        text = BROKEN.sub("", LINK.sub(lambda link: to_readme(link, folder), text))
        parts += [text, block[0] if block else ""]
        at = block.end() if block else at
    return "".join(parts)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - as above
    """Take the backslash from an escaped bar in the code of a table, which Markdown for Python leaves there."""
    return CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def targets(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    for link in LINK.finditer(FENCED.sub("", page.read_text(encoding="utf-8"))):
        path = (page.parent / link["file"]).resolve()
        if path.is_relative_to(ROOT):
            yield path


def to_readme(link: re.Match[str], folder: Path) -> str:
    """The target of a link; of a folder that has a README, that file."""
    if (folder / link["file"] / "README.md").is_file():
        return str(PurePosixPath(link["file"]) / "README.md") + (link["anchor"] or "")
    return link[0]
