"""A model of a finished run that goes to the hub: its folder, its rows of the table, and the models that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.evaluation.result_row import ResultRow
from kdspec.engine.export import hub_folder
from kdspec.engine.run.run_folder import RunFolder
from kdspec.planning import outline_form
from kdspec.source import read_back


class NoSuchModelError(ValueError):
    """The run has trained no model of that name."""


@dataclass(frozen=True, kw_only=True)
class PushedModel:
    """A model of a run."""

    run: RunFolder
    run_name: str
    name: str
    folder: Path
    teachers: tuple[str, ...]
    """The models that it was distilled from, in the last stage that has trained it."""
    rows: Sequence[ResultRow]
    """Its rows of the table."""

    @classmethod
    def of(cls, run: Path, model: str | None) -> PushedModel:
        """The model of this name, by default the student of the run.

        Raises:
            FindingError: KD003 if the run has not finished or a file of it is damaged.
            NoSuchModelError: the run has trained no such model.
        """
        folder = RunFolder(run)
        table = folder.table()
        data = None if table is None else _outline(run / "plan.json")
        if table is None or data is None:
            message = f"the run in `{run}` has not finished"
            raise FindingError(Finding("KD003", message, help="finish it with the command that began it"))
        stages = data["stages"]
        student = str(([stage for stage in stages if stage["teachers"]] or stages)[-1]["student"])
        trained = {str(stage["student"]): tuple(stage["teachers"]) for stage in stages}
        name = student if model is None else model
        if name not in trained:
            near = closest(name, trained)
            hint = f"did you mean `{near}`?" if near else f"it has {', '.join(f'`{each}`' for each in trained)}"
            raise NoSuchModelError(f"the run has trained no model `{name}`; {hint}")
        place = folder.student if name == student else folder.model(name)
        rows = [row for row in table if row.model == name and row.metrics]
        return cls(run=folder, run_name=data["name"], name=name, folder=place, teachers=trained[name], rows=rows)

    def fill(self, folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Write the folder that is uploaded; the metadata of its card, and what is worth knowing about it."""
        models = (yaml.safe_load(self.run.text("spec.yaml") or "") or {}).get("models") or {}
        come_from = hub_folder.origins(models, (self.name, *self.teachers), self.run.origin or self.run.path)
        data = hub_folder.fill(folder, self.run.path, self.folder, self.rows, self.run_name, come_from)
        return data, tuple(_notes(come_from, data))


def _outline(file: Path) -> Mapping[str, Any] | None:
    try:
        data = read_back.mapping(file)
        return outline_form.checked(data) if outline_form.is_of_this_version(data) else None
    except FileNotFoundError:
        return None
    except read_back.Damage as damage:
        raise read_back.refused(file, damage, help="restore the file") from damage


def _notes(come_from: hub_folder.Origins, data: Mapping[str, Any]) -> list[str]:
    """Why the card has no licence."""
    if "license" in data:
        return []
    add = "add `license:` to the README.md in the repository"
    if len(come_from.licences) > 1:
        return [f"the models that it comes from have different licences ({', '.join(come_from.licences)}); {add}"]
    if come_from.unknown:
        return [f"no licence is known of {', '.join(f'`{each}`' for each in come_from.unknown)}; {add}"]
    return [f"it comes from no model with a licence; {add}"]
