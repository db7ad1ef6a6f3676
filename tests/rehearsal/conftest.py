"""Rehearsals of small specs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.finding import Finding
from kdspec.diagnostics.place import place
from kdspec.planning.prepare import prepare
from kdspec.rehearsal.rehearse import rehearse
from kdspec.rehearsal.result import Rehearsal
from kdspec.source.document import Document
from kdspec.source.extends import compose
from kdspec.testing import registry


@dataclass(frozen=True)
class Rehearsed:
    """A plan, its rehearsal, and the text that both come from."""

    plan: Plan
    found: Rehearsal
    document: Document

    @property
    def stage(self) -> Any:
        """The last stage."""
        return self.found.stages[-1]

    @property
    def codes(self) -> list[str]:
        """What was found, errors and notes alike."""
        return [finding.code for finding in self.found.findings]

    def pointed(self, finding: Finding) -> str:
        """The text at which a finding points."""
        ((span, lines),) = [
            (d.primary.span, self.document.sources[d.primary.span.file].lines) for d in place([finding], self.document)
        ]
        assert span.line == span.end_line
        return lines[span.line][span.column : span.end_column]


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
        document = compose(text, "spec.yaml", tmp_path, sets, {})
        prepared = prepare(document, components)
        assert prepared.plan is not None, prepared.errors
        return prepared.plan, components, document

    return made


@pytest.fixture
def rehearsed(planned):
    """`rehearsed(text, *plugins)` rehearses a spec; the arguments are those of `planned`."""

    def run(*arguments, **options):
        plan, components, document = planned(*arguments, **options)
        return Rehearsed(plan, rehearse(plan, components), document)

    return run
