"""Stages that are alike but for their names: one rehearsal answers for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kdspec.api.plan.plan import StagePlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.spec.spec import CheckpointSettings
from kdspec.diagnostics.finding import Finding, SpecPath
from kdspec.rehearsal.result import RehearsedStage

_Key = tuple[str, ...]


@dataclass(frozen=True)
class _Rehearsed:
    stage: StagePlan
    result: RehearsedStage
    findings: tuple[Finding, ...]


@dataclass
class Alike:
    """The stages that have been rehearsed, each with one of its tasks."""

    _known: dict[_Key, list[_Rehearsed]] = field(default_factory=dict)

    def find(self, stage: StagePlan, tasks: Collection[str]) -> tuple[RehearsedStage, tuple[Finding, ...]] | None:
        """The result and the findings of a stage as those of an earlier one that differs in its name, if there is one."""
        plain = _plain(stage)
        for earlier in self._known.get(_key(stage, tasks), ()):
            if _plain(earlier.stage) == plain:
                old, new = earlier.stage.name, stage.name
                matches = tuple(_moved(match, new) for match in earlier.result.matches)
                findings = tuple(_renamed(finding, old, new) for finding in earlier.findings)
                return replace(earlier.result, name=new, matches=matches), findings
        return None

    def keep(
        self, stage: StagePlan, tasks: Collection[str], result: RehearsedStage, findings: Sequence[Finding]
    ) -> None:
        """Remember a stage, unless a finding names it in words of its own."""
        if not any(f"`{stage.name}`" in text for found in findings for text in _texts(_renamed(found, stage.name, ""))):
            self._known.setdefault(_key(stage, tasks), []).append(_Rehearsed(stage, result, tuple(findings)))


def _key(stage: StagePlan, tasks: Collection[str]) -> _Key:
    return (stage.distiller.name, *stage.models, "", *stage.tasks, "", *sorted(tasks))


def _plain(stage: StagePlan) -> StagePlan:
    """The stage without its name, and without the settings that change no step."""
    without = {
        "steps": None,
        "log_every": 1,
        "evaluate": None,
        "checkpoint": CheckpointSettings(),
        "early_stopping": None,
    }
    plain = stage.trained(stage.training.model_copy(update=without))
    tasks = {
        name: replace(task, stage="", matches=tuple(_moved(match, "") for match in task.matches))
        for name, task in plain.tasks.items()
    }
    return replace(plain, name="", tasks=tasks)


def _moved(match: PlannedMatch, stage: str) -> PlannedMatch:
    return replace(match, path=_in(match.path, stage), layers_at=_in(match.layers_at, stage))


def _in(path: SpecPath, stage: str) -> SpecPath:
    return ("stages", stage, *path[2:]) if path[:1] == ("stages",) and len(path) > 1 else path


def _renamed(finding: Finding, old: str, new: str) -> Finding:
    def said(text: str) -> str:
        return text.replace(f"stage `{old}`", f"stage `{new}`")

    return replace(
        finding,
        message=said(finding.message),
        at=None if finding.at is None else _in(finding.at, new),
        label=said(finding.label),
        also=tuple(mark._replace(at=_in(mark.at, new), text=said(mark.text)) for mark in finding.also),
        notes=tuple(map(said, finding.notes)),
        help=None if finding.help is None else said(finding.help),
    )


def _texts(finding: Finding) -> Iterator[str]:
    yield from (finding.message, finding.label, finding.help or "", *finding.notes)
    yield from (mark.text for mark in finding.also)
