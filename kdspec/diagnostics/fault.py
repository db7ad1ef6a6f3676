"""An error that a component raises when it is built; its place is relative to the component's place in the spec."""

from __future__ import annotations

from kdspec.diagnostics.diagnostic import Severity


class Fault(Exception):  # noqa: N818 - the user's mistake, not an error of the program
    """Raised in `build` for errors that need the data or the weights to be found; the engine adds the place in the spec.

    Args:
        code: a diagnostic code, such as `KD502`.
        message: lower case, without a full stop, names in backticks.
        at: path of the wrong value among the component's parameters; empty for the component itself.
        help: what to do.
        notes: context.
        key: whether the last key of `at` is wrong, not its value.
        fix: the wrong word and its replacement, for `kdspec validate --fix`.
        severity: of what is reported, and not raised: `warning` where the result may be wrong.
    """

    def __init__(
        self,
        code: str,
        message: str,
        at: tuple[str | int, ...] = (),
        *,
        help: str | None = None,  # noqa: A002 - the word of the diagnostics
        notes: tuple[str, ...] = (),
        key: bool = False,
        fix: tuple[str, str] | None = None,
        severity: Severity = "error",
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.at, self.help, self.notes = code, message, at, help, notes
        self.key, self.fix, self.severity = key, fix, severity


class Within(Exception):  # noqa: N818 - where another error comes from, not one of its own
    """Names the part of a component that raised an error, for components that run several parts.

    Raised `from` the error.

    Args:
        what: the part, for example "the loss `mmd`".
        at: path of the part among the component's parameters.
        notes: context, such as the shapes of the part's inputs.
    """

    def __init__(self, what: str, at: tuple[str | int, ...], notes: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what, self.at, self.notes = what, at, notes
