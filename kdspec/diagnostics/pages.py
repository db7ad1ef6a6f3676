"""The page of a code for `kdspec explain`: advice beside the table's text, and a wrong and a right excerpt of a spec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

_FENCED = re.compile(r"^```yaml\n((?:(?!```).*\n)*+)```\n", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """The parts of a page. The examples are merged into a complete spec; a page may have none."""

    text: str
    """What is wrong in the example, or what to do."""
    wrong: str | None = None
    right: str | None = None


def page(code: str) -> Page | None:
    """The page of a code of the table, None where there is none."""
    file = resources.files("kdspec.diagnostics") / "explain" / f"{code}.md"
    if not file.is_file():
        return None
    written = file.read_text(encoding="utf-8")
    examples = _FENCED.findall(written)
    text = written.partition("```")[0].strip()
    return Page(text, *examples) if examples else Page(text)
