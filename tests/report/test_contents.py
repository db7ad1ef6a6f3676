"""The sections of a page and the list of them."""

from __future__ import annotations

import re

from kdspec import Section
from kdspec.report.contents import FailedSection, with_contents


def test_every_section_is_in_the_contents_and_can_be_linked_to():
    parts = [
        Section("A b", "<p>1</p>"),
        Section("C & d", "<p>2</p>"),
        Section("Empty", ""),
        Section("学生", "<p>3</p>"),
    ]
    nav, *sections = with_contents(parts)
    assert re.findall(r'<a href="#(.*?)">(.*?)</a>', nav) == [("a-b", "A b"), ("c-d", "C &amp; d"), ("section", "学生")]
    assert [re.search(r'id="(.*?)"', section)[1] for section in sections] == ["a-b", "c-d", "section"]


def test_equal_titles_have_places_of_their_own():
    same = Section("A", "<p>1</p>")
    nav, *_ = with_contents([same, same, Section("a 2", "x"), same])
    assert re.findall(r'href="#(.*?)"', nav) == ["a", "a-2", "a-2-2", "a-3"]


def test_a_short_page_has_no_contents():
    assert "<nav" not in "".join(with_contents([Section("A", "1"), Section("B", "2")]))


def test_a_section_that_failed_is_a_note_in_its_place():
    first, note, last = with_contents([Section("A", "1"), FailedSection("acme <1>", "it & broke"), Section("B", "2")])
    assert 'id="a"' in first
    assert note == '<p class="note warning">The section of acme &lt;1&gt; is missing: it &amp; broke</p>'
    assert 'id="b"' in last
