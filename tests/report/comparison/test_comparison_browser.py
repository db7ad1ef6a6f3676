"""The page of several runs in a real browser: at any width, in light and dark, on paper, alone in its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_looks import CLIPPED, FAINT, OUTSIDE, PAPER, WIDTHS

from kdspec.report.comparison.compared_run import read_run
from kdspec.report.comparison.comparison_page import comparison_page
from kdspec.report.comparison.variant import compare

pytestmark = pytest.mark.slow
LOSSES = ("kl", {"dkd": {"alpha": 1, "beta": 8}}, "w" * 200, "一" * 200, None)
INSIDE = """
  return [...document.querySelectorAll('.settings svg')].flatMap(svg => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()])
      .filter(([, r]) => r.left < box.left - 1 || r.right > box.right + 1 || r.bottom > box.bottom + 1)
      .map(([text]) => text);
  });
"""


@pytest.fixture
def page(folder_of_run, tmp_path) -> Path:
    """A page of a sweep of numbers of few and of many decades, and of what is no number."""
    folders, swept = [], {"stages.distil.temperature": {}, "models.student.lr": {}, "stages.distil.loss": {}}
    for number, (temperature, lr, loss, seed) in enumerate(
        (t, lr, loss, seed) for t in (1, 2.5) for lr in (1e-5, 2e-3) for loss in LOSSES for seed in (1, 2)
    ):
        name = f"r{number}"
        changes = {"m": {"lr": lr, "loss": loss}}
        made = folder_of_run(name, temperature=temperature, changes=changes, seed=seed, accuracy=(number * 7 % 40) / 40)
        folders.append(made)
        for path, value in zip(swept, (temperature, lr, loss), strict=True):
            swept[path][name] = value
    path = tmp_path / "comparison.html"
    path.write_text(comparison_page(compare(map(read_run, folders)), "Sweep", (), swept), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_its_charts_fit_and_stand_out_at_any_width(browser, page, dark):
    for width in WIDTHS:
        browser.open(page, width=width, dark=dark)
        assert browser.evaluate("return document.documentElement.scrollWidth") <= width
        assert browser.evaluate("return document.querySelectorAll('.settings figure').length") == 3
        assert browser.evaluate(OUTSIDE) == []
        assert browser.evaluate(INSIDE) == []
    seen, faint = browser.evaluate(FAINT)
    assert seen > 100
    assert faint == []


def test_nothing_but_the_file_is_asked_for_and_nothing_is_clipped_on_paper(browser, page):
    browser.open(page, width=PAPER, media="print")
    assert browser.requested() == [page.as_uri()]
    assert browser.logged("browser") == []
    clipped = browser.evaluate(CLIPPED)
    assert [each for each in clipped if each.startswith(("FIGURE", "svg"))] == []
