"""The page of several runs: self-contained, escaped, with a line for each run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from kdspec.report.comparison.compared_run import read_run
from kdspec.report.comparison.comparison_page import comparison_page
from kdspec.report.comparison.variant import compare


class Tags(HTMLParser):
    """Checks that tags are closed, and collects them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def page(*folders, title="Runs", notes=()):
    return comparison_page(compare(map(read_run, folders)), title, notes)


def test_it_has_figures_differences_a_line_for_each_run_and_the_best(folder_of_run):
    folders = [
        folder_of_run(f"t{t}-s{seed}", temperature=t, seed=seed, accuracy=0.7 + t / 100)
        for t in (2, 4)
        for seed in (1, 2)
    ]
    text = page(*folders)
    Tags(text)
    assert text.count('<span class="badge">best</span>') == 1
    assert "temperature 4" in text
    assert "stages.distil.distiller.general.soft_labels.temperature" in text
    assert "0.7400" in text
    # Loss, accuracy and two terms, each with four runs.
    assert len(re.findall('<polyline class="line"', text)) == 16
    assert "t4-s2, seed 2, step 4: 0.5" in text
    assert "mean ± standard deviation" in text


def test_each_setting_has_a_chart_of_the_metric(folder_of_run):
    folders = [
        folder_of_run(f"t{t}-s{seed}", temperature=t, seed=seed, accuracy=0.7 + t / 100)
        for t in (2, 400)
        for seed in (1, 2)
    ]
    text = page(*folders)
    assert "<h2>Validation accuracy by setting</h2>" in text
    assert "soft_labels.temperature, logarithmic</small>" in text
    assert text.count('<path class="average"') == 2
    assert "standard deviation over the seeds" in text
    found = compare(map(read_run, folders))
    swept = {"a.b": {folder.name: folder.name for folder in folders}, "c": dict.fromkeys(("t2-s1", "t2-s2"), "x")}
    text = comparison_page(found, "Sweep", (), swept)
    assert "<b>a.b</b><small>a.b</small>" in text or "<b>b</b><small>a.b</small>" in text
    assert "logarithmic" not in text
    assert "by setting" not in comparison_page(found, "Sweep", (), {})


def test_nothing_is_loaded_from_elsewhere(folder_of_run):
    text = page(folder_of_run("a"), folder_of_run("b", temperature=4))
    found = Tags(text)
    assert "default-src 'none'" in text
    assert not {"script", "link", "img", "iframe"} & {*found.tags}
    assert not [value for name, value in found.attributes if name in ("src", "href") or name.startswith("on")]
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text


def test_what_comes_from_a_run_is_escaped(folder_of_run):
    evil = "<img src=x onerror=1>"
    one = folder_of_run("a", changes={evil: {"toy": {"width": evil}}}, ends="failed")
    text = page(one, folder_of_run("b"), title=evil, notes=[evil])
    assert "<img" not in text
    assert "img" not in Tags(text).tags
    folders = [folder_of_run(f"r{n}", changes={evil: {"x": f"{evil}{n}"}}, metric=evil) for n in range(3)]
    text = page(*folders)
    assert "by setting" in text
    assert "<img" not in text
    assert "img" not in Tags(text).tags


def test_unfinished_and_failed_runs_are_named(folder_of_run):
    text = page(folder_of_run("a", ends="failed"), folder_of_run("b", ends="unfinished", steps=1, temperature=3))
    assert "1 failed, 1 unfinished" in text
    assert "KD501 the loss is not finite" in text
    assert "distil 1/4" in text


def test_many_variants_keep_the_page_small(folder_of_run):
    folders = [folder_of_run(f"r{i}", temperature=float(i), accuracy=i / 100) for i in range(1, 71)]
    text = page(*folders)
    Tags(text)
    assert "10 more runs are not drawn" in text
    assert len(text) < 1_500_000
