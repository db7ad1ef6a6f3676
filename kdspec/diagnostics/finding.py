"""What is wrong with a spec, and the path in the spec that it is about; lines and columns come later, in `place`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kdspec.diagnostics.codes.table import CODES
from kdspec.diagnostics.diagnostic import Severity, one_line
from kdspec.diagnostics.fault import Fault

TRACEBACK = "run again with `--traceback` to see where"
"""The help of a finding that has a `cause`."""

SpecPath = tuple[str | int, ...]
"""Keys and list indices that lead to a value of a spec, such as `("stages", "distil", "training", "lanes")`."""


class Mark(NamedTuple):
    """Another place of the spec that a finding is about, and a few words for it."""

    at: SpecPath
    text: str = ""
    key: bool = False
    """Whether the last key of the path is meant, and not its value."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    The message is a fact in lower case without a full stop; a note is context, the help an action. Where the path is
    not written in the text, the nearest outer one that is written is shown.
    """

    code: str
    """One of the codes of kdspec, or `<distribution>/<code>`."""
    message: str
    at: SpecPath | None = None
    """What it is about; None for what no place in the spec has to do with."""
    label: str = ""
    """A few words shown at that place."""
    key: bool = False
    """Whether the last key of `at` is meant, and not its value."""
    also: tuple[Mark, ...] = ()
    """Other places that have to do with it."""
    notes: tuple[str, ...] = ()
    help: str | None = None
    fix: tuple[str, str] | None = None
    """The text at fault and the one to put in its place, for `kdspec validate --fix`."""
    part: tuple[int, int] | None = None
    """First character of a text at `at`, and the one behind the last, where a part of it is at fault.

    Where the text is not written as it was read, all of it is pointed at, without the label.
    """
    severity: Severity = "error"
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception that a plugin raised, for `--traceback`."""

    def __post_init__(self) -> None:
        assert "/" in self.code or self.code in CODES, f"{self.code} is neither in CODES nor <distribution>/<code>"

    def __str__(self) -> str:
        """`stages.distil.training: KD102 message`, or `KD514 message` where no place has to do with it."""
        at = ".".join(map(str, self.at or ()))
        return f"{at}: {self.code} {self.message}" if at else f"{self.code} {self.message}"

    @property
    def line(self) -> str:
        """The message and the help on one line."""
        return one_line(self.message, self.help)


class FindingError(Exception):
    """Raised where findings forbid to go on."""

    def __init__(self, *findings: Finding) -> None:
        assert findings, "an error says what is wrong"
        super().__init__(*findings)
        self.findings = findings

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


def of_fault(fault: Fault, path: SpecPath) -> Finding:
    """The finding about what a component has raised; `path` leads to the component's parameters."""
    return Finding(
        fault.code,
        fault.message,
        (*path, *fault.at),
        key=fault.key,
        notes=fault.notes,
        help=fault.help,
        fix=fault.fix,
        severity="warning" if fault.code == "KD305" else fault.severity,
    )
