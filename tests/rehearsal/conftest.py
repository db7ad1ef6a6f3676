"""Rehearsals of small specs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from kdspec.plan.plan import Plan, make
from kdspec.rehearsal.rehearse import rehearse
from kdspec.rehearsal.result import Rehearsal
from kdspec.source.extends import compose
from kdspec.spec.check import check
from kdspec.testing import registry


@dataclass(frozen=True)
class Rehearsed:
    """A plan, its rehearsal, and the text that both come from."""

    plan: Plan
    found: Rehearsal
    text: str

    @property
    def stage(self) -> Any:
        """The last stage."""
        return self.found.stages[-1]

    @property
    def codes(self) -> list[str]:
        """What was found, errors and notes alike."""
        return [diagnostic.code for diagnostic in self.found.diagnostics]

    def pointed(self, diagnostic: Any) -> str:
        """The text at which a diagnostic points."""
        span = diagnostic.primary.span
        assert span.line == span.end_line
        return self.text.splitlines()[span.line][span.column : span.end_column]


@pytest.fixture
def planned(tmp_path):
    """`planned(text, *plugins)` gives the plan of a spec and its components; `change` are pairs of texts to replace in it."""
    (tmp_path / "rows.csv").write_text("text,label\ngood,good\nbad,bad\n", encoding="utf-8")
    row = {"ids": [1, 2, 3, 4, 5], "mask": [1, 1, 1, 1, 0], "label": 1}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(7)), encoding="utf-8")

    def made(text, *plugins, change=(), sets=()):
        for old, new in change:
            assert old in text
            text = text.replace(old, new, 1)
        components = registry(*plugins)
        checked = check(compose(text, "spec.yaml", tmp_path, sets, {}), components)
        assert checked.spec is not None
        assert not checked.errors, checked.errors
        plan, diagnostics = make(checked.spec, components)
        assert plan is not None, diagnostics
        return plan, components, text

    return made


@pytest.fixture
def rehearsed(planned):
    """`rehearsed(text, *plugins)` rehearses a spec; the arguments are those of `planned`."""

    def run(*arguments, **options):
        plan, components, text = planned(*arguments, **options)
        return Rehearsed(plan, rehearse(plan, components), text)

    return run
