"""The sections of a page, each with a place to link to, and the list of them at the top."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from kdspec.api.report import Section

_FEWEST = 3
"""Sections of a page that has a list of them."""


@dataclass(frozen=True)
class FailedSection:
    """A section that a plugin failed to provide, and why."""

    plugin: str
    reason: str


def with_contents(sections: Sequence[Section | FailedSection]) -> Iterator[str]:
    """The list of the sections, then each as HTML; sections without content are left out."""
    there = [section for section in sections if isinstance(section, FailedSection) or section.html]
    titles = [section.title for section in there if isinstance(section, Section)]
    places = list(_places(titles))
    if len(titles) >= _FEWEST:
        links = (
            f'<li><a href="#{place}">{escape(title)}</a></li>' for place, title in zip(places, titles, strict=True)
        )
        yield f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>'
    left = iter(places)
    for section in there:
        if isinstance(section, FailedSection):
            text = f"The section of {escape(section.plugin)} is missing: {escape(section.reason)}"
            yield f'<p class="note warning">{text}</p>'
        else:
            yield f'<section id="{next(left)}">\n<h2>{escape(section.title)}</h2>\n{section.html}\n</section>'


def _places(titles: Sequence[str]) -> Iterator[str]:
    """An id for each section, made from its title and different from the others."""
    taken: set[str] = set()
    for title in titles:
        # ASCII alone: a browser percent-encodes the rest, so that the address would be hard to read.
        name = place = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        number = 1
        while place in taken:
            number += 1
            place = f"{name}-{number}"
        taken.add(place)
        yield place
