"""The report in a real browser: at any width, in light and dark, on paper, alone in its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_looks import CLIPPED, FAINT, OUTSIDE, PAPER, WIDTHS

from kdspec import Section, hookimpl
from kdspec.events import (
    Evaluated,
    Note,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
    to_json,
)
from kdspec.registry.plugins import Plugin, Plugins
from kdspec.report import report

pytestmark = pytest.mark.slow

CLASSES = [f"comp.sys.a-rather-long-name.{n}" for n in range(20)]
BINS = [None] * 7 + [[5 * 10**n, 0.5 + n / 17, 0.4 + n / 17] for n in range(8)]
ROW = {
    "model": "student", "role": "student", "task": "reviews", "split": "validation",
    "metrics": {f"metric_{n}": n / 10 for n in range(7)}, "agreement": 0.9, "agrees_on": "rows with the same class",
    "parameters": 4_386_178, "bytes": 17_500_000, "latency_ms": 3.2, "lower_is_better": [], "selected_by": "metric_1",
    "rows": 2000, "labelled": 2000,
    "confidence": {"bins": BINS, "coverage": [[0.5, 1.0, 0.98], [1.0, 0.81, 0.8]], "asked": [[0.9, 0.25, 0.9, 0.86]]},
    "errors": {
        "unit": "rows", "against": "labels", "entities": False, "unlisted": 0, "names": CLASSES, "confused": [],
        "matrix": [[1000 if n == m else (n * m) % 37 for m in range(20)] for n in range(20)],
        "classes": [[name, 0.5, 0.25, None, 1234, 0.9] for name in CLASSES],
        "points": [["stars", [[n / 10, n % 7] for n in range(50)]]], "compared": 2000, "differ": 120,
        "differing": [
            {
                "row": 17, "texts": [[["a word that is long: ", False], ["x" * 400, True]]],
                "answers": [["", CLASSES[0], CLASSES[1], 0.9, CLASSES[2], 0.8]] * 2,
            },
            {
                "row": None, "texts": [[["x" * 400, False]]] * 2, "about": f"{'s' * 100}, cosines 0.5 apart",
                "answers": [["", "y" * 400, "z" * 400, 0.9, "w" * 400, 0.8]], "right": [[True, False]],
            },
        ],
    },
}  # fmt: skip
TEACHER = ROW | {"model": "teacher", "role": "teacher"}


class Adds:
    @hookimpl
    def kdspec_report(self, report):
        return [Section("Of a plugin", "<p>its text</p>")]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of a run of several stages that has everything a page can have, with long words in it."""
    folder = tmp_path_factory.mktemp("run")
    events = [RunStarted("a run", ("fine_tune", "distil"), {"kdspec": "0.1.0"}, 7, None)]
    for stage in ("fine_tune", "distil"):
        events.append(StageStarted(stage, 30, 1.0, 24, 0))
        for n in range(1, 31):
            terms = {"soft_labels": 1 / n, "matches.hidden_mse.1": 2 / n}
            events.append(
                StepDone(stage, n, 0, 3 / n, terms, dict.fromkeys(terms, 1.0), {"student": 0.1}, 2.0, 0.1, 8, 9, ())
            )
            if n % 10 == 0:
                events.append(
                    Evaluated(stage, n, "validation", "student", {"accuracy": n / 40, "nll": 1 / n}, best=True)
                )
        events.append(StageFinished(stage, 30, 1.0, 30, {"accuracy": 0.75}, "models/student"))
    events += [Note("warning", "w" * 300), Note("info", "a note"), RunFinished(9.0, {})]
    lines = ({"time": "2026-01-01T00:00:00+00:00", **to_json(event)} for event in events)
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "table.json").write_text(json.dumps([TEACHER, ROW]), encoding="utf-8")
    (folder / "spec.yaml").write_text(f"name: {'s' * 300}\n", encoding="utf-8")
    plugins = Plugins()
    plugins.add(Plugin("acme", "1", "acme", "acme", Adds()))
    return report.write(report.read(folder), plugins)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.evaluate("return innerWidth") == width
    assert browser.evaluate("return document.documentElement.scrollWidth") <= width
    assert browser.evaluate(OUTSIDE) == []
    assert browser.evaluate("return document.querySelectorAll('section').length") >= 9


def test_nothing_but_the_file_is_asked_for_and_nothing_fails(browser, page):
    browser.open(page, width=1200)
    assert browser.requested() == [page.as_uri()]
    assert browser.logged("browser") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out_from_its_ground(browser, page, dark):
    """By 4.5 to 1, as level AA of WCAG 2 asks of small text."""
    browser.open(page, width=1200, dark=dark)
    ground = browser.evaluate("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 22, 26)" if dark else "rgb(255, 255, 255)")
    seen, faint = browser.evaluate(FAINT)
    assert seen > 500
    assert faint == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_clipped_on_paper(browser, page, dark):
    browser.open(page, width=PAPER, dark=dark, media="print")
    assert browser.evaluate("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.evaluate("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.evaluate(CLIPPED) == []


def test_the_contents_lead_to_the_sections(browser, page):
    browser.open(page, width=420)
    links = "[...document.querySelectorAll('nav a')]"
    titles = browser.evaluate(f"return {links}.map(a => a.textContent)")
    headings = browser.evaluate("return [...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert titles == headings
    assert "Of a plugin" in titles
    browser.evaluate(f"{links}.find(a => a.textContent === 'Curves of distil').click()")
    top = "document.querySelector('#curves-of-distil').getBoundingClientRect().top"
    assert 0 <= browser.evaluate(f"return {top}") < 100
