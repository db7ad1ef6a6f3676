"""A plan in a file: the complete spec, its outline, and a digest of both, to be run unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.planning import outline_form
from kdspec.planning.difference import difference
from kdspec.planning.outline import outline
from kdspec.planning.resolved import resolved
from kdspec.source import read_back
from kdspec.source.read_back import Damage, Form, PathText

FORMAT = 1
_KEY = "kdspec_plan"


class _Content(BaseModel):
    spec: str
    folder: PathText
    outline: dict[str, JsonValue]
    salt: str = ""
    variables: dict[str, str] = {}


_FORM: Form[_Content] = Form(_Content)


@dataclass(frozen=True)
class Saved:
    """A plan that was read from a file."""

    file: str
    spec: str
    """The complete spec as YAML."""
    folder: Path
    """The folder in which its relative paths start."""
    outline: Mapping[str, Any]
    """The outline of the plan."""
    salt: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """The fingerprints of the variables in the spec, by their names."""

    def check(self, plan: Plan) -> Finding | None:
        """A finding if the spec now gives another plan than when the file was written."""
        now = plan.source.variables.fingerprints(self.spec, self.salt)
        if other := [name for name, known in self.variables.items() if now.get(name) != known]:
            listed = ", ".join(f"`${{{name}}}`" for name in other)
            message = (
                f"`{self.file}` would not run as planned: {listed} {'has' if len(other) == 1 else 'have'} another value"
            )
            help_ = "set the environment as it was, or make the plan again"
            return Finding("KD509", message, help=help_)
        changes = difference(self.outline, json.loads(json.dumps(outline(plan))))
        if not changes:
            return None
        notes = tuple(f"`{change.path}` was {change.old} and is {change.new} now" for change in changes[:5])
        settings = "1 setting differs" if len(changes) == 1 else f"{len(changes)} settings differ"
        message = f"`{self.file}` would not run as planned: {settings}"
        help_ = "a model's configuration or a package has changed: make the plan again"
        return Finding("KD509", message, notes=notes, help=help_)


def dumps(plan: Plan, beside: Path) -> str:
    """The text of a plan's file that will be in the folder `beside`."""
    folder = plan.source.folder.resolve()
    try:
        where = os.path.relpath(folder, beside.resolve())
    except ValueError:  # another drive
        where = str(folder)
    content: dict[str, Any] = {"spec": resolved(plan), "folder": where, "outline": outline(plan)}
    salt = secrets.token_hex(16)
    if known := plan.source.variables.fingerprints(content["spec"], salt):
        content |= {"salt": salt, "variables": known}
    return json.dumps({_KEY: FORMAT, "digest": _digest(content), **content}, indent=2, ensure_ascii=False) + "\n"


def load(path: str) -> Saved:
    """Read a plan's file.

    Raises:
        FindingError: KD003, if it cannot be read, is not a plan, or was edited; with the place in it.
    """
    try:
        content = read_back.mapping(Path(path))
    except FileNotFoundError as error:
        raise FindingError(Finding("KD003", f"cannot read the plan `{path}`: no such file or directory")) from error
    except Damage as damage:
        raise FindingError(Finding("KD003", f"cannot read the plan `{path}`: {damage}")) from damage
    if content.pop(_KEY, None) != FORMAT:
        help_ = "a plan is made by `kdspec plan SPEC -o plan.json`"
        raise FindingError(Finding("KD003", f"`{path}` is not a plan of this version of kdspec", help=help_))
    if content.pop("digest", None) != _digest(content):
        help_ = "change the spec, and make the plan again with `kdspec plan SPEC -o plan.json`"
        raise FindingError(Finding("KD003", f"the plan `{path}` was edited: its digest does not match", help=help_))
    try:
        found = _FORM.of(content)
        return Saved(
            path, found.spec, Path(path).parent / found.folder, outline_form.checked(content["outline"]),
            salt=found.salt, variables=found.variables,
        )  # fmt: skip
    except Damage as damage:
        raise FindingError(Finding("KD003", f"cannot read the plan `{path}`: {damage}")) from damage


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
