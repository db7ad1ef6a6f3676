"""The reference pages are what the code says, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import kdspec

DOCS = Path(kdspec.__file__).parent.parent / "docs"
PAGES = (
    *("spec.md", "components.md", "diagnostics.md", "commands.md", "library.md"),
    "gallery.md",
    *sorted(
        page.relative_to(DOCS).as_posix() for kind in ("components", "gallery") for page in DOCS.glob(f"{kind}/*.md")
    ),
)


@pytest.fixture(scope="module")
def generate():
    specification = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_fresh(generate, capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_the_library_lists_arguments_and_fields():
    page = (DOCS / "library.md").read_text(encoding="utf-8")
    for named in (
        "Evaluated(stage, step, split, model, metrics, best, selected_by, lower_is_better)",
        "encode(columns, tokenizer, longest)",
    ):
        assert f"| `{named}` |" in page
    assert "| `needs(student, teachers, task, *, soft, hard, matches)` |" in page
    assert "self" not in re.findall(r"`\w+\(([^`)]*)", page)


@pytest.mark.slow
def test_a_stale_page_is_named_with_the_command_that_renews_it(generate, tmp_path, monkeypatch, capsys):
    for name, text in generate.pages().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "spec.md").write_text("old")
    (tmp_path / "components" / "gone.md").write_text("of a kind that is no more")
    (tmp_path / "commands.md").unlink()
    monkeypatch.setattr(generate, "HERE", tmp_path)
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == (
        "stale: docs/spec.md, docs/commands.md, docs/components/gone.md; run: python docs/generate.py\n"
    )
    assert generate.main([]) == 0
    assert not (tmp_path / "components" / "gone.md").exists()
    assert generate.main(["--check"]) == 0


def test_the_pages_do_not_depend_on_the_width_of_the_terminal(generate, monkeypatch):
    first = generate.commands_page()
    monkeypatch.setenv("COLUMNS", "40")
    assert generate.commands_page() == first


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]*)\)", text):
        file, _, anchor = target.partition("#")
        to = ((DOCS / page).parent / file).resolve() if file else DOCS / page
        assert to.is_file(), target
        assert not anchor or anchor in anchors(to), target


@pytest.mark.parametrize("page", PAGES)
def test_rows_of_a_table_have_as_many_cells_as_its_header(page):
    columns = 0
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells in {0, columns} or columns == 0, line
        columns = cells


def test_the_gallery_has_every_spec_once(generate):
    specs = DOCS.parent / "specs"
    there = sorted(path for path in specs.rglob("*.yaml") if "assets" not in path.parts)
    assert sorted(path for folder in generate.SHELVES for path in generate.shelf(folder)) == there


def test_the_gallery_has_the_recorded_figures_of_a_spec_and_of_no_other(generate):
    assert "| student | 83.58 |" in generate.recorded("quickstart")
    assert generate.recorded("tasks/chinese_names").count("| chinese_names |") == 3
    assert generate.recorded("basics/teacher") == generate.recorded("tasks/chinese_questions") == ""
    assert all(generate.recorded(name) for name in generate.FIGURES)
