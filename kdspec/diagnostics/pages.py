"""The page of a code: what `kdspec explain` tells beside the table's text, with a wrong and a right piece of a spec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

_FENCED = re.compile(r"^```yaml\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A page in parts. The examples belong into a spec that has all else; a page may do without them."""

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
